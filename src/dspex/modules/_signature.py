"""What a predictor is to do: instructions, and the fields that go in and come out."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from dspex.errors import UsageError

# Where one word of a name ends and the next begins: before a capital after a small letter, and around numbers.
_JOINTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-zA-Z])(?=\d)|(?<=\d)(?=[a-zA-Z])")


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature. `type` is as it was written; it is text, which nobody evaluates."""

    name: str
    prefix: str
    description: str
    type: str = "str"
    is_output: bool = False

    def dump_state(self) -> dict[str, str]:
        """The state in DSPy's layout, and the name."""
        return {"name": self.name, "prefix": self.prefix, "description": self.description}


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """Instructions and fields, in the order in which they were written: inputs, then outputs."""

    instructions: str
    fields: tuple[Field, ...]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that a call gives."""
        return tuple(field for field in self.fields if not field.is_output)

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The fields that a call is to bring."""
        return tuple(field for field in self.fields if field.is_output)

    def with_instructions(self, instructions: str) -> Signature:
        """The same fields under other instructions."""
        return dataclasses.replace(self, instructions=instructions)

    def dump_state(self) -> dict[str, Any]:
        """The state in DSPy's layout. Each field brings its name as well, which DSPy passes over."""
        return {"instructions": self.instructions, "fields": [field.dump_state() for field in self.fields]}

    def __str__(self) -> str:
        return f"{_written(self.inputs)} -> {_written(self.outputs)}"


def signature_of(text: str, instructions: str | None = None) -> Signature:
    """The signature written as `question, context: list[str] -> answer: int`.

    Fields get the prefixes and descriptions, and the whole gets the instructions, that DSPy gives them.
    Raises UsageError for a text that is no signature.
    """
    sides = text.split("->")
    if len(sides) != 2:
        raise UsageError(f"a signature is written as 'question, context -> answer', not {text!r}")
    fields = [_field(part, text, is_output=i == 1) for i, side in enumerate(sides) for part in _parts(side)]
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"field {twice[0]!r} is twice in the signature {text!r}")
    if not any(field.is_output for field in fields):
        raise UsageError(f"nothing comes out of the signature {text!r}: name an output after ->")
    made = Signature("", tuple(fields))
    return made.with_instructions(instructions if instructions is not None else _usual_instructions(made))


def _usual_instructions(signature: Signature) -> str:
    inputs, outputs = (", ".join(f"`{f.name}`" for f in side) for side in (signature.inputs, signature.outputs))
    return f"Given the fields {inputs}, produce the fields {outputs}."


def _parts(side: str) -> list[str]:
    """The text between commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(side):
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            parts.append(side[start:place])
            start = place + 1
    parts.append(side[start:])
    return parts if any(part.strip() for part in parts) else []


def _field(part: str, text: str, *, is_output: bool) -> Field:
    name, _, kind = (piece.strip() for piece in part.partition(":"))
    if not name.isidentifier():
        raise UsageError(f"{name!r} is no name for a field, in the signature {text!r}")
    return Field(name, prefix_of(name), f"${{{name}}}", kind or "str", is_output)


def prefix_of(name: str) -> str:
    """The prefix that DSPy derives from a field's name: `longAnswer_2` becomes `Long Answer 2:`."""
    words = _JOINTS.sub("_", name).split("_")
    return " ".join(word if word.isupper() else word.capitalize() for word in words if word) + ":"


def _written(fields: tuple[Field, ...]) -> str:
    return ", ".join(field.name if field.type == "str" else f"{field.name}: {field.type}" for field in fields)
