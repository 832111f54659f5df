"""DSPy's RLM over a text of 10 MB: it crosses once, and a step that fails leaves no trace.

    pip install 'dspex[dspy]' && python examples/dspy_rlm.py

The model is scripted, so no network is needed. RLM gives all inputs again at each step; the interpreter knows them again. The
third step spoils what the second found and then fails: the session goes back to where it was before.
"""

import time

import dspy
from dspy.utils import DummyLM

from dspex.integrations.dspy import RLM

STEPS = [
    'print(len(text), "characters; it begins:", text[:40])',
    'found = [line for line in text.splitlines() if "password" in line]\nprint(len(found), "lines")',
    "found.clear()\nfound[0]",
    "said = llm_query(f'Which word is the password? {found[0]}')\nSUBMIT(word=said, lines=len(found))",
]


def letter() -> str:
    """Some 10 MB of lines, one of which matters."""
    lines = [f"line {number}: nothing of note happened, and it rained a little" for number in range(160_000)]
    lines[123_456] = "line 123456: the password is swordfish, as ever"
    return "\n".join(lines)


def sub_model(prompt: str) -> list[str]:
    """What `llm_query` asks; scripted as well."""
    return [prompt.rpartition("password is ")[2].partition(",")[0]]


def main() -> None:
    text = letter()
    model = DummyLM([{"reasoning": "Go on.", "code": f"```python\n{step}\n```"} for step in STEPS])
    with dspy.context(lm=model):
        program = RLM("text -> word, lines: int", sub_lm=sub_model)
        began = time.perf_counter()
        answered = program(text=text)
    for number, step in enumerate(answered.trajectory, 1):
        print(f"step {number}:", step["output"].strip().splitlines()[0][:100])
    print(f"the password is {answered.word}, in {answered.lines} line of {len(text):,} characters")
    print(f"{len(answered.trajectory)} steps in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
