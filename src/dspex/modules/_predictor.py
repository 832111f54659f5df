"""`Predictor`: the parameter that asks a model. It holds what is learned; how a model is asked is a function given to it."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import StateError, UsageError
from dspex.examples import Example, Prediction
from dspex.modules._module import Module
from dspex.modules._parameter import Parameter
from dspex.modules._signature import Field, Signature, signature_of
from dspex.modules._state import METADATA, metadata_of
from dspex.modules._values import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.modules._values import Mismatches

_log = logging.getLogger("dspex.modules")

# What a state file could use to send the next prompts elsewhere; the names are DSPy's.
UNSAFE = frozenset({"api_base", "base_url", "model_list"})
_SECRET = "api_key"
_NEEDED = ("demos", "signature", "lm")
_KNOWN = frozenset({"traces", "train", *_NEEDED, "fields", "config", "demo_inputs", "metadata"})


class Predictor(Parameter, Module):
    """A leaf that answers by a function, with instructions, fields, demos, configuration and model settings.

    signature: text such as `question, context: list[str] -> answer: int`, or a `Signature`.
    call: called as `call(predictor, **inputs)`; gives a Prediction, or a mapping of which one is made. May be async,
        for `acall`. It is code, so it is not part of the state; copies share it.
    instructions: instead of those that are derived from the fields.
    callbacks: as of every module.
    config: what the function is to be told besides, such as `temperature=0.7`.

    `lm` holds the settings of a model: a dict, or an object whose `dump_state()` gives one. `demos` are examples.
    Raises UsageError for a signature that is none.
    """

    def __init__(
        self,
        signature: str | Signature,
        callbacks: list[Any] | None = None,
        *,
        call: Callable[..., Any] | None = None,
        instructions: str | None = None,
        **config: Any,
    ) -> None:
        Module.__init__(self, callbacks=callbacks)
        self.signature = _signature(signature, instructions)
        self.criteria: dict[str, Any] = {}
        self.config = config
        self._call = call
        self.reset()

    def reset(self) -> None:
        """Forget demos, traces and model settings; instructions, fields and configuration stay."""
        self.lm: Any = None
        self.traces: list[Any] = []
        self.train: list[Any] = []
        self.demos: list[Any] = []

    @property
    def instructions(self) -> str:
        """What the model is told to do."""
        return self.signature.instructions

    @instructions.setter
    def instructions(self, text: str) -> None:
        self.signature = self.signature.with_instructions(text)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the signature, inputs before outputs."""
        return self.signature.fields

    def update_config(self, **config: Any) -> None:
        """Add to the configuration."""
        self.config = {**self.config, **config}

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return self.config

    # --- calls ---

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        """Ask the function. Inputs are given by name. Raises UsageError when there is no function, or it is async."""
        self._refuse_positional(args)
        return super().__call__(**inputs)

    async def acall(self, *args: Any, **inputs: Any) -> Any:
        """The same, and an async function is awaited."""
        self._refuse_positional(args)
        return await super().acall(**inputs)

    def forward(self, **inputs: Any) -> Any:
        """What the function gives, as a Prediction. Called by `predictor(...)`, with callbacks and telemetry."""
        answer = self._function()(self, **inputs)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise UsageError(f"{self!r} has an async function: await predictor.acall(...) instead")
        return _prediction(answer)

    async def aforward(self, **inputs: Any) -> Any:
        """The same, and an async function is awaited."""
        answer = self._function()(self, **inputs)
        return _prediction(await answer if inspect.isawaitable(answer) else answer)

    def _function(self) -> Callable[..., Any]:
        if self._call is None:
            raise UsageError(f"{self!r} has no function that asks a model: Predictor(..., call=function)")
        return self._call

    def _refuse_positional(self, args: tuple[Any, ...]) -> None:
        if args:
            names = ", ".join(f"{field.name}=..." for field in self.signature.inputs)
            raise UsageError(f"a predictor takes its inputs by name: predictor({names})")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.signature)!r})"

    # --- state, in DSPy's layout ---

    def dump_state(self, json_mode: bool = True, *, like_dspy: bool = False, metadata: bool = False) -> dict[str, Any]:
        """The state as `dspy.Predict` has it, and where there is any, `config` and the input keys of the demos.

        With `json_mode=False` demos stay examples, with `like_dspy` there is nothing that DSPy does not know, with
        `metadata` there is `metadata` as of every module.

        An `api_key` is left out. Raises StateError for what is no plain data.
        """
        state: dict[str, Any] = {
            "traces": plain(self.traces, "traces"),
            "train": plain(self.train, "train"),
            "demos": plain(self.demos, "demos") if json_mode else [_example(demo, None) for demo in self.demos],
            "signature": self.signature.dump_state(),
        }
        if self.criteria:
            state["fields"] = plain(self.criteria, "fields")
        state["lm"] = _settings(self.lm)
        if self.config and not like_dspy:
            state["config"] = plain(_without(self.config, {_SECRET}), "config")
        marks = [_marks(demo) for demo in self.demos]
        if any(mark is not None for mark in marks) and not like_dspy:
            state["demo_inputs"] = marks
        if metadata:
            state[METADATA] = metadata_of(self)
        return state

    def fitting_state(self, state: Any, *, allow_unsafe_lm_state: bool = False) -> tuple[dict[str, Any], Mismatches]:
        """The attributes as they would be set, and what does not fit; "" is the path of the whole."""
        if not isinstance(state, Mapping):
            return {}, (("", f"is of type {type(state).__name__}, but the state of a predictor is needed"),)
        wrong = [(key, "is missing") for key in _NEEDED if key not in state]
        wrong += [(str(key), "is no part of a predictor's state") for key in state if key not in _KNOWN]
        values: dict[str, Any] = {}
        for key in sorted(_KNOWN & state.keys() - {"demo_inputs", "metadata"}):
            value, reasons = self._fitted_part(key, state, safe=not allow_unsafe_lm_state)
            wrong += reasons
            if not reasons:
                values["criteria" if key == "fields" else key] = value
        return values, tuple(sorted(wrong))

    def _fitted_part(self, key: str, state: Mapping[str, Any], *, safe: bool) -> tuple[Any, Mismatches]:
        value: Any = state[key]
        if key == "signature":
            return _fitted_signature(value, self.signature)
        if key == "demos":
            return _fitted_demos(value, state.get("demo_inputs"))
        if key == "lm" and value is None:
            return None, ()
        kind: type = list if key in ("traces", "train") else dict
        if not isinstance(value, kind):
            return None, ((key, f"is of type {type(value).__name__}, but a {kind.__name__} is needed"),)
        if safe and key in ("lm", "config") and isinstance(value, Mapping):
            value = _safe(value, key)
        return plain(value, key), ()


# --- parts of a state ---


def _signature(given: str | Signature, instructions: str | None) -> Signature:
    if isinstance(given, str):
        return signature_of(given, instructions)
    if not isinstance(given, Signature):
        raise UsageError(f"a signature is text such as 'question -> answer', or a Signature, not {given!r}")
    return given if instructions is None else given.with_instructions(instructions)


def _prediction(answer: Any) -> Any:
    return Prediction(**answer) if isinstance(answer, Mapping) else answer


def _settings(lm: Any) -> dict[str, Any] | None:
    if lm is None:
        return None
    settings = lm.dump_state() if hasattr(lm, "dump_state") else lm
    if not isinstance(settings, Mapping):
        raise StateError(
            f"lm: {type(lm).__name__} is neither a dict of settings nor has it a dump_state() that gives one"
        )
    made: dict[str, Any] = plain(_without(settings, {_SECRET}), "lm")
    return made


def _without(settings: Mapping[str, Any], names: set[str] | frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _safe(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Settings without those that say where prompts are sent; a warning tells of any that were left out."""
    unsafe = sorted(UNSAFE & settings.keys())
    if unsafe:
        _log.warning(
            "%s: left out %s, which would say where prompts are sent; allow_unsafe_lm_state=True takes them from a file "
            "that you trust",
            key,
            ", ".join(unsafe),
        )
    return _without(settings, UNSAFE)


def _marks(demo: Any) -> list[str] | None:
    keys = demo.input_keys if isinstance(demo, Example) else None
    return None if keys is None else sorted(keys)


def _example(fields: Any, marks: Sequence[str] | None) -> Example:
    made = fields.copy() if isinstance(fields, Example) else Example(fields)
    return made if marks is None else made.with_inputs(*marks)


_BLANK = Example()


def _new_example(fields: dict[str, Any], marks: Sequence[str] | None) -> Example:
    """An example of these very fields, not of a copy: a thousand predictors have thousands of them to load."""
    made = _BLANK._with_fields(fields)
    if marks is not None:
        made._input_keys = frozenset(marks)
    return made


def _fitted_demos(value: Any, marks: Any) -> tuple[Any, Mismatches]:
    if not isinstance(value, list):
        return None, (("demos", f"is of type {type(value).__name__}, but a list is needed"),)
    wrong = [
        (f"demos[{i}]", f"is of type {type(demo).__name__}, but a mapping of fields is needed")
        for i, demo in enumerate(value)
        if not isinstance(demo, (Mapping, Example)) or not set(map(type, demo)) <= {str}
    ]
    if marks is not None and not _are_marks(marks, len(value)):
        wrong.append(("demo_inputs", "is not a list with the names of the inputs for each demo"))
    if wrong:
        return None, tuple(wrong)
    names: Sequence[Any] = marks if marks is not None else [None] * len(value)
    return [
        _new_example(plain(demo, "demos"), _marks(demo) if mark is None else mark)
        for demo, mark in zip(value, names, strict=True)
    ], ()


def _are_marks(marks: Any, count: int) -> bool:
    return (
        isinstance(marks, list)
        and len(marks) == count
        and all(mark is None or (isinstance(mark, list) and set(map(type, mark)) <= {str}) for mark in marks)
    )


def _fitted_signature(value: Any, own: Signature) -> tuple[Any, Mismatches]:
    """Fields are matched by name; those of a file of DSPy's have none, and are matched in order."""
    instructions, fields = (value.get("instructions"), value.get("fields")) if isinstance(value, Mapping) else (0, 0)
    if not isinstance(instructions, str) or not isinstance(fields, list):
        return None, (("signature", "is no mapping with instructions (text) and fields (a list)"),)
    if _are_fields(fields, own):
        return (own if instructions == own.instructions else own.with_instructions(instructions)), ()
    if len(fields) != len(own.fields):
        return None, (("signature.fields", f"are {len(fields)}, but {len(own.fields)} are needed"),)
    wrong = tuple(
        (f"signature.fields[{i}]", reason) for i, field in enumerate(fields) if (reason := _unfit(field, own))
    )
    names = [field.get("name", mine.name) for field, mine in zip(fields, own.fields, strict=True)] if not wrong else []
    if not wrong and len(set(names)) < len(names):
        wrong = (("signature.fields", f"are named {', '.join(names)}"),)
    if wrong:
        return None, wrong
    saved = dict(zip(names, fields, strict=True))
    return Signature(instructions, tuple(_restored(field, saved[field.name]) for field in own.fields)), ()


def _are_fields(states: list[Any], own: Signature) -> bool:
    """Whether nothing but the instructions may differ, as in nearly all states."""
    return states == [field.dump_state() for field in own.fields]


def _unfit(field: Any, own: Signature) -> str:
    if not isinstance(field, Mapping) or not all(type(field.get(key)) is str for key in ("prefix", "description")):
        return "is no mapping with a prefix and a description, both text"
    known = [mine.name for mine in own.fields]
    name = field.get("name", known[0])
    return "" if name in known else f"is named {name!r}, but the fields are {', '.join(known)}"


def _restored(field: Field, saved: Mapping[str, Any]) -> Field:
    return dataclasses.replace(field, prefix=saved["prefix"], description=saved["description"])
