"""`Module`: a program, or a part of one; a tree of modules whose leaves are parameters."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dspex.errors import UsageError
from dspex.modules import _paths, _state
from dspex.modules._copy import copied
from dspex.modules._node import Node
from dspex.modules._walk import parameters_as_dspy, parameters_of, places_of, sub_modules_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from dspex.modules._parameter import Parameter
    from dspex.modules._values import Mismatches

_MAX_ERRORS = 10  # as DSPy's


class Module(Node):
    """The base of programs. A subclass sets its parts as attributes, and says in `forward` what a call does.

        class Answer(Module):
            def __init__(self):
                self.search = Predictor("question -> query", call=ask)
                self.answer = Predictor("question, passages -> answer", call=ask)

            def forward(self, question):
                passages = look_up(self.search(question=question).query)
                return self.answer(question=question, passages=passages)

        program = Answer()
        program(question="...")
        program.save("program.json")

    Call the module, not `forward`: calls are what callbacks and telemetry see. `module_id` says what the module is in a
    registry (its class, if not set), `version` which one, `metadata` whatever else is worth knowing; set them on the
    class or on an object.
    """

    module_id: str
    version: str = "0"
    metadata: Mapping[str, Any] = MappingProxyType({})
    forward: ClassVar[Callable[..., Any]]
    aforward: ClassVar[Callable[..., Any]]

    def __init__(self, callbacks: list[Any] | None = None) -> None:
        self.callbacks = callbacks or []

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "module_id" not in vars(cls):
            cls.module_id = f"{cls.__module__}:{cls.__qualname__}"

    # --- calls ---

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`, seen by the callbacks and by OpenTelemetry if the program uses it."""
        if self.callbacks or "opentelemetry.trace" in sys.modules:
            return self._watched_call(args, kwargs)
        return self.forward(*args, **kwargs)

    def _watched_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from dspex.modules._calls import watched

        with watched(self, args, kwargs) as call:
            call.outputs = self.forward(*args, **kwargs)
        return call.outputs

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Await `aforward`; a module without one has its `forward` called in a thread, so that the loop goes on."""
        if self.callbacks or "opentelemetry.trace" in sys.modules:
            from dspex.modules._calls import watched

            with watched(self, args, kwargs) as call:
                call.outputs = await self._awaited(args, kwargs)
            return call.outputs
        return await self._awaited(args, kwargs)

    async def _awaited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if hasattr(self, "aforward"):
            return await self.aforward(*args, **kwargs)
        if inspect.iscoroutinefunction(self.forward):
            return await self.forward(*args, **kwargs)
        import asyncio

        return await asyncio.to_thread(self.forward, *args, **kwargs)

    def batch(  # noqa: PLR0917  (the order is DSPy's)
        self,
        examples: Iterable[Any],
        num_threads: int | None = None,
        max_errors: int | None = None,
        return_failed_examples: bool = False,
        provide_traceback: bool | None = None,
        disable_progress_bar: bool = False,
        timeout: float | None = 120,
        straggler_limit: int = 3,
    ) -> Any:
        """Call the module once for each example, in threads; the results are in the order of the examples.

        An example is a mapping of inputs, or an Example, whose inputs are taken. The arguments are DSPy's: at the
        `max_errors`-th failure (10th) the batch is given up, and a call slower than `timeout` seconds is started once
        more when at most `straggler_limit` are left; 0 or None: never. A bar is shown when stderr is a terminal.

        Gives `(results, failed examples, exceptions)` with `return_failed_examples`. Raises BatchError when given up.
        """
        from dspex.modules._batch import run_batch

        slow = timeout or None
        return run_batch(
            lambda example: self(**_inputs(example)),
            examples,
            threads=num_threads,
            max_errors=_allowed(max_errors),
            timeout=slow,
            stragglers=None if slow is None else straggler_limit,
            progress=not disable_progress_bar and sys.stderr.isatty(),
            return_failed=return_failed_examples,
            traceback=bool(provide_traceback),
        )

    async def abatch(
        self,
        examples: Iterable[Any],
        *,
        concurrency: int | None = None,
        max_errors: int | None = None,
        return_failed_examples: bool = False,
        disable_progress_bar: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """The same with `acall`, `concurrency` (8) at once; a call slower than `timeout` seconds is cancelled, and failed."""
        from dspex.modules._batch import arun_batch

        return await arun_batch(
            lambda example: self.acall(**_inputs(example)),
            examples,
            concurrency=concurrency,
            max_errors=_allowed(max_errors),
            timeout=timeout or None,
            progress=not disable_progress_bar and sys.stderr.isatty(),
            return_failed=return_failed_examples,
        )

    # --- what is in it ---

    def named_parameters(self, *, frozen: bool = False, like_dspy: bool = False) -> list[tuple[str, Parameter]]:
        """Every parameter once, with its first path, such as `search.steps[0]`; the module itself is `self`.

        Modules, lists, tuples, dicts and dataclasses are entered at any depth; parameters are not. Frozen sub-modules
        are left out, unless `frozen` is set. `like_dspy`: exactly what DSPy finds, by its names: in a container that
        is an attribute, but in none inside of that, and in no dataclass.
        """
        return parameters_as_dspy(self) if like_dspy else parameters_of(self, frozen=frozen)

    def parameters(self, *, frozen: bool = False, like_dspy: bool = False) -> list[Parameter]:
        """Those of `named_parameters`, without their paths."""
        return [parameter for _, parameter in self.named_parameters(frozen=frozen, like_dspy=like_dspy)]

    def named_sub_modules(
        self,
        type_: type | tuple[type, ...] | None = None,
        skip_compiled: bool = False,
        max_depth: int | None = None,
        *,
        enter_parameters: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """Everything of type `type_` (modules) in the tree, breadth first, each once, beginning with the module itself.

        skip_compiled: give frozen modules, but nothing inside of them.
        max_depth: how many modules deep; 0 is the module itself.
        enter_parameters: look for more inside of parameters, as DSPy does.

        Paths are as DSPy's, `self.steps[0][main]`, and understood by `set_attribute_by_name`.
        """
        return sub_modules_of(
            self, type_ or Module, skip_compiled=skip_compiled, max_depth=max_depth, enter_parameters=enter_parameters
        )

    def named_predictors(self) -> list[tuple[str, Any]]:
        """Every parameter that can be called, with its path."""
        return [(path, parameter) for path, parameter in self.named_parameters() if isinstance(parameter, Module)]

    def predictors(self) -> list[Any]:
        """Every parameter that can be called."""
        return [predictor for _, predictor in self.named_predictors()]

    def map_named_predictors(self, func: Callable[[Any], Any]) -> Self:
        """Put `func(predictor)` in the place of every predictor, wherever it is; gives the module itself."""
        changed = {id(predictor): (predictor, func(predictor)) for predictor in self.predictors()}
        for path, predictor in places_of(self, changed):
            self.set_attribute_by_name(path, changed[id(predictor)][1])
        return self

    def set_attribute_by_name(self, name: str, value: Any) -> None:
        """Put `value` at a path that enumeration gives. Raises UsageError when there is no such place."""
        _paths.replaced(self, name, value)

    def get_attribute_by_name(self, name: str) -> Any:
        """What is at a path. Raises UsageError when there is nothing."""
        return _paths.found(self, name)

    def freeze(self, frozen: bool = True) -> Self:
        """Keep this module as it is when a program that holds it is enumerated, reset, loaded; gives itself."""
        self._compiled = frozen
        return self

    def set_lm(self, lm: Any) -> None:
        """Give every predictor these model settings."""
        for predictor in self.predictors():
            predictor.lm = lm

    def get_lm(self) -> Any:
        """The model settings that all predictors have. Raises UsageError when they have several, or there are none."""
        found = [predictor.lm for predictor in self.predictors()]
        if not found or any(lm is not found[0] and lm != found[0] for lm in found):
            raise UsageError(f"{type(self).__name__} has no single lm: its {len(found)} predictors differ, or are none")
        return found[0]

    # --- copies ---

    def deepcopy(self) -> Self:
        """A copy that shares nothing mutable with this module, but for callbacks and history, which it has none of.

        What cannot be copied, such as a lock or a client, is kept by reference; one UserWarning names it all.
        """
        made: Self = copied(self)
        return made

    def reset_copy(self) -> Self:
        """A deep copy whose parameters have forgotten what they learned; frozen ones keep it."""
        made: Self = copied(self)
        for parameter in made.parameters():
            parameter.reset()
        return made

    # --- state ---

    def dump_state(self, json_mode: bool = True, *, like_dspy: bool = False, metadata: bool = True) -> dict[str, Any]:
        """The states of all parameters by path, and under `metadata` what they are: plain data, sharing nothing.

        `metadata["dspex"]` holds the schema version, the module's type, id and version, the type of each parameter by
        its path, the version of dspex, and the time in UTC. `metadata=False` leaves that out, as DSPy does; `like_dspy`
        gives each predictor DSPy's name and nothing that DSPy does not know.

        Raises StateError for what has no plain form, naming its path.
        """
        state = _state.dumped(self, json_mode=json_mode, like_dspy=like_dspy)
        if metadata:
            state[_state.METADATA] = _state.metadata_of(self)
        return state

    def load_state(
        self, state: Mapping[str, Any], strict: bool = True, *, allow_unsafe_lm_state: bool = False
    ) -> Mismatches:
        """Take over a state, all or nothing. Gives what was skipped as (path, reason): with `strict`, nothing.

        Everything is checked before anything changes. What is missing, unknown or of another type or shape is named by
        its path in one StateMismatchError; with `strict=False` it is left as it is, and told. A state never adds an
        attribute. Settings that say where prompts are sent (`api_base`, ...) are left out, unless
        `allow_unsafe_lm_state` says that the state can be trusted.
        """
        return _state.load(self, state, strict=strict, allow_unsafe_lm_state=allow_unsafe_lm_state)

    def save(
        self,
        path: str | os.PathLike[str],
        save_program: bool = False,
        modules_to_serialize: list[Any] | None = None,
        *,
        format: str | None = None,
        compression: str | None = None,
    ) -> None:
        """Save the state to a file, atomically; or, with `save_program`, code and state to a directory.

        format: "json", "msgpack", "protobuf", "etf", or "dspy", which `dspy.Module.load` reads; compression: "gzip" or
            "zstd". What is not said comes from the name.
        modules_to_serialize: Python modules whose code is to be saved as well, for where they cannot be imported.

        Raises StateError naming what cannot be saved; OSError. A file that was there is then unchanged.
        """
        from dspex.modules import _files

        if save_program:
            _files.save_program(self, path, modules_to_serialize or [])
        else:
            _files.save_state(self, path, format, compression)

    def load(
        self,
        path: str | os.PathLike[str],
        allow_pickle: bool = False,
        allow_unsafe_lm_state: bool = False,
        *,
        strict: bool = True,
    ) -> Mismatches:
        """Load the state from a file in any format, DSPy's included, as `load_state` does.

        A `.pkl` of DSPy's runs whatever code it holds; it is loaded only with `allow_pickle=True`.

        Raises StateFormatError naming file, place and cause; StateMismatchError; OSError. Nothing has changed then.
        """
        from dspex.modules import _files

        state = _files.read_state(path, allow_pickle=allow_pickle)
        _state.check_schema(state)
        return self.load_state(state, strict, allow_unsafe_lm_state=allow_unsafe_lm_state)

    # --- for people ---

    def tree(self) -> Any:
        """The program as a tree: paths, types, sizes, what is frozen, what is shared. Print it, or `str` it."""
        from dspex.modules._tree import Tree

        return Tree(self)

    def __repr__(self) -> str:
        lines = [f"{path} = {predictor!r}" for path, predictor in self.named_predictors()]
        return "\n".join(lines) if lines else f"{type(self).__name__}()"


Module.module_id = f"{Module.__module__}:{Module.__qualname__}"


def _inputs(example: Any) -> dict[str, Any]:
    """The inputs of a call: those marked in an example, or all that a mapping holds."""
    return dict(example) if isinstance(example, Mapping) else dict(example.inputs().items())


def _allowed(max_errors: int | None) -> int:
    """DSPy gives a batch up at the `max_errors`-th failure; `run_batch` says how many may fail."""
    return max((_MAX_ERRORS if max_errors is None else max_errors) - 1, 0)
