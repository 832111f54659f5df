"""A program of DSPy, saved, branched, merged and restored: every version of what it learnt is kept.

python examples/dspy_versions.py            (needs: pip install dspex dspy)
"""

import tempfile

import dspy

from dspex import StateManager
from dspex.errors import ConflictError


class Answerer(dspy.Module):
    """Answers with a thought before, and rates its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.ChainOfThought("question -> answer")
        self.rate = dspy.Predict("question, answer -> score: float")

    def forward(self, question: str) -> dspy.Prediction:
        """A rated answer."""
        answer = self.answer(question=question).answer
        return dspy.Prediction(answer=answer, score=self.rate(question=question, answer=answer).score)


def instruct(predictor: dspy.Predict, text: str) -> None:
    """Give a predictor another instruction, as an optimizer does."""
    predictor.signature = predictor.signature.with_instructions(text)


def main() -> None:
    """Save, branch, merge and restore a program."""
    program = Answerer()
    with tempfile.TemporaryDirectory() as directory, StateManager(f"sqlite:///{directory}/states.db") as states:
        first = states.save_state("answerer", program, metadata={"score": 0.61}, tags=["production"])
        print("saved", first)

        # An experiment on a branch: demos for the answer.
        states.branch("answerer", "demos")
        program.answer.predict.demos = [dspy.Example(question="1 + 1?", answer="2").with_inputs("question")]
        tried = states.save_state("answerer", program, branch="demos", metadata={"score": 0.74})

        # Meanwhile somebody improves the rating on main.
        other = Answerer()
        states.load_into("answerer", other, first)
        instruct(other.rate, "Rate strictly.")
        states.save_state("answerer", other, parent=first, metadata={"score": 0.66})

        # Who saves from what is no longer the newest is told; nothing is lost.
        try:
            states.save_state("answerer", program, parent=first)
        except ConflictError as conflict:
            print("refused:", conflict)

        merged = states.merge("answerer", "demos", metadata={"score": 0.79})
        print("merged", tried, "into", merged, "of", *merged.parents)
        states.load_into("answerer", program)
        print("demos:", len(program.answer.predict.demos), "| rate:", program.rate.signature.instructions)
        for difference in states.diff("answerer", first):
            print("  ", str(difference)[:100])

        # Back to what is in production.
        states.load_into("answerer", program, at="production")
        print("restored:", len(program.answer.predict.demos), "demos")
        print("every byte is as it was saved:", states.verify().ok)


if __name__ == "__main__":
    main()
