"""Programs that the tests of modules use."""

import dspex


def echo(predictor, **inputs):
    """A function that asks no model: it answers with its inputs."""
    return {name.name: f"{name.name} of {sorted(inputs.items())}" for name in predictor.signature.outputs}


class Answer(dspex.Module):
    """A program of two predictors, one of them in a list in a dict."""

    def __init__(self):
        super().__init__()
        self.search = dspex.Predictor("question -> query", call=echo)
        self.steps = {"main": [dspex.Predictor("query -> answer", call=echo)]}

    def forward(self, question):
        query = self.search(question=question).query
        return self.steps["main"][0](query=query)


def with_demos(program, count=2):
    """The program with as many demos in each predictor."""
    for path, predictor in program.named_predictors():
        names = [field.name for field in predictor.fields]
        demos = [{name: f"{path} {i} {name}" for name in names} for i in range(count)]
        predictor.demos = [dspex.Example(demo).with_inputs(names[0]) for demo in demos]
    return program
