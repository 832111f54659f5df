"""The rows that programs are made and judged with, and what programs answer.

    Example       named fields; some are inputs, the others labels
    Prediction    an Example that a program answered, with its completions and usage
    Completions   the alternatives that a prediction was chosen from, by column

Drop-in for the classes of those names in DSPy; what differs stands in docs/from-dspy.md.
"""

from __future__ import annotations

from dspex.examples._completions import Completions as Completions
from dspex.examples._example import Example as Example
from dspex.examples._prediction import Prediction as Prediction

__all__ = ["Completions", "Example", "Prediction"]
