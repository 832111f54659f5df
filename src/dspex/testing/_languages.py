"""`LanguageSuite`: what every language must do. A language's tests are a subclass with its name and its `Words`.

    from dspex.testing import LanguageSuite, Words

    class TestLua(LanguageSuite):
        language = "lua"
        words = Words(add="return x + y", echo="return x", ...)
        lacks = frozenset({"await", "displays"})

`lacks` names the parts that the language cannot meet; of these the suite asks only that the engine says so, where a caller
would ask for them.
"""

from __future__ import annotations

import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from dspex import CodeExecutor, ResourceLimits
from dspex.errors import ClosedError, UsageError, VariableError

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTS: Final = frozenset(
    (
        *(
            "await",
            "big_integers",
            "bytes",
            "bytes_apart",
            "columns",
            "data",
            "displays",
            "files",
            "floats",
            "interruption",
        ),
        *("lines", "maps_of_any", "null_text", "parallel_tools", "sessions", "soft_deadline", "special_floats"),
        *("syntax_line", "tools", "tracebacks"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """The same programs in the language's own words. Empty where the language `lacks` what they are for."""

    add: str  # the sum of the variables x and y
    echo: str = "x"  # the variable x
    number: str = "42"  # 42, without a variable
    out_and_err: str  # writes "to out" and a line's end to stdout, "to err" and a line's end to stderr
    raises: str  # an error of the message "wrong", of type `raised`, on line 3
    raised: str
    message: str = "wrong"
    unreadable: str  # no program: wrong on line 2
    endless: str  # computes for ever
    greedy: str  # takes memory for ever
    flood: str  # writes to stdout for ever
    text_of: str = ""  # a text of n characters, n being a variable
    write: str = ""  # writes "written" to the file out.txt
    read: str = ""  # the text of the file data.txt
    fill_disk: str = ""  # writes a file larger than 32 MB
    leave: str = ""  # leaves a name and a file behind, for `found`; with sessions
    found: str = ""  # True when the file left.txt is there
    leave_file: str = ""  # makes the file left.txt
    exit_zero: str = ""  # leaves with status 0
    define: tuple[str, ...] = ()  # cells of a session: names, functions, types, imports ...
    use: str = ""  # ... and 42, made from all of them
    fail: str = ""  # a cell that fails
    call: str = ""  # what the tool `double` returns for 21
    call_failing: str = ""  # the message of the error that the tool `refuse` raises, caught
    call_apart: str = ""  # the sum of two calls of `double` that are under way together
    awaited: str = ""  # 42, by awaiting
    show: str = ""  # shows the HTML <b>shown</b>


class LanguageSuite:
    """Subclass it, give it `language` and `words`, and pytest does the rest."""

    language: ClassVar[Any] = ""
    options: ClassVar[Mapping[str, Any]] = {}
    words: ClassVar[Words]
    lacks: ClassVar[frozenset[str]] = frozenset()
    patience: ClassVar[float] = 60.0  # seconds of wall time for a program that shall not meet this limit

    _executor: ClassVar[CodeExecutor]

    @classmethod
    def setup_class(cls) -> None:
        """One executor for all of a class's tests."""
        cls._executor = cls.made()

    @classmethod
    def teardown_class(cls) -> None:
        """Nothing of it remains."""
        cls._executor.close()

    @pytest.fixture
    def executor(self) -> CodeExecutor:
        """The executor that the class's tests share."""
        return self._executor

    @classmethod
    def made(cls, **limits: Any) -> CodeExecutor:
        """An executor for the language, with these limits."""
        return CodeExecutor(cls.language, limits=ResourceLimits(**{"wall": cls.patience, **limits}), **cls.options)

    def lacking(self, *parts: str) -> bool:
        """True where the language lacks a part: what it says then, where it says something, is tested by itself."""
        return not self.lacks.isdisjoint(parts)

    # --- Itself ---------------------------------------------------------------------------------------------------------

    def test_what_it_lacks_is_known(self) -> None:
        """A misspelt part would hide a failure."""
        assert self.lacks <= PARTS

    # --- Values ---------------------------------------------------------------------------------------------------------

    def test_the_last_expression_is_the_value(self, executor: CodeExecutor) -> None:
        """As a value of Python, with the name of its type beside it."""
        result = executor.execute(self.words.number)
        assert (result.error, result.value, result.stdout, result.stderr) == (None, 42, "", "")
        assert result.value_type

    def test_variables_are_names(self, executor: CodeExecutor) -> None:
        """Given by the caller, used by the program."""
        assert executor.execute(self.words.add, {"x": 20, "y": 22}).unwrap() == 42

    @pytest.mark.parametrize(
        "value",
        [
            *(None, True, False, 0, -1, 2**31, -(2**53) + 1, 2**53 - 1, 1.5, -2.25e-8, 1e300),
            *("", "plain", 'quotes "and" \\ \n\t\r', "ü € 😀 \u2028\u2029\uffff", "x" * 100_000),
            *([], [1, [2, [3, []]]], [None, True, "a", 1.5], {}, {"a": {"b": [1, {"c": None}]}, "ü 😀": 1}),
        ],
        ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!a}",
    )
    def test_values_come_back(self, executor: CodeExecutor, value: object) -> None:
        """What every language has: nothing is lost, and nothing becomes something else."""
        if "data" in self.lacks and type(value) not in (int, float):
            self.is_refused(executor, value)
            return
        found = executor.execute(self.words.echo, {"x": value}).unwrap()
        assert found == value
        assert isinstance(found, type(value)) or "floats" in self.lacks

    @pytest.mark.parametrize("value", [1.0, -0.0, 0.0, 1e22, 2.0**53])
    def test_floats_stay_floats(self, executor: CodeExecutor, value: float) -> None:
        """Also those without a fraction."""
        if self.lacking("floats"):
            return
        found = executor.execute(self.words.echo, {"x": value}).unwrap()
        assert (found, type(found), math.copysign(1, found)) == (value, float, math.copysign(1, value))

    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    def test_special_floats(self, executor: CodeExecutor, value: float) -> None:
        """Infinities, and what is no number."""
        if "special_floats" in self.lacks:
            self.is_refused(executor, value)
            return
        found = executor.execute(self.words.echo, {"x": value}).unwrap()
        assert found == value or (math.isnan(found) and math.isnan(value))

    @pytest.mark.parametrize("value", [2**53, 2**63 - 1, -(2**63), 2**64, -(2**64) - 1, 10**40, -(3**200)])
    def test_big_integers(self, executor: CodeExecutor, value: int) -> None:
        """Exactly, beyond 53 and beyond 64 bits; or not at all."""
        if self.lacking("data"):
            return
        if "big_integers" in self.lacks and abs(value) >= 2**63:
            self.is_refused(executor, value)
            return
        found = executor.execute(self.words.echo, {"x": value}).unwrap()
        assert (found, type(found)) == (value, int)

    @pytest.mark.parametrize("value", [b"", b"\x00\xff", bytes(range(256)) * 100, [b"a", {"k": b"b"}]])
    def test_bytes(self, executor: CodeExecutor, value: object) -> None:
        """Bytes are no text."""
        if "bytes" in self.lacks:
            self.is_refused(executor, value)
            return
        found = executor.execute(self.words.echo, {"x": value}).unwrap()
        assert found == (_as_text(value) if "bytes_apart" in self.lacks else value)

    def test_a_text_with_a_null(self, executor: CodeExecutor) -> None:
        """No text ends at its first null."""
        if "null_text" in self.lacks:
            self.is_refused(executor, "a\0b")
            return
        assert executor.execute(self.words.echo, {"x": "a\0b"}).unwrap() == "a\0b"

    @pytest.mark.parametrize("value", [{1: "a"}, {"~tag": 1}, {"": 2}])
    def test_maps_of_other_keys(self, executor: CodeExecutor, value: object) -> None:
        """Keys that JSON has no words for."""
        if "data" in self.lacks or ("maps_of_any" in self.lacks and value != {"": 2}):
            self.is_refused(executor, value)
            return
        assert executor.execute(self.words.echo, {"x": value}).unwrap() == value

    def is_refused(self, executor: CodeExecutor, value: object) -> None:
        """A value that the language has nothing for is refused, by name."""
        with pytest.raises(VariableError, match="x"):
            executor.execute(self.words.echo, {"x": value})

    def test_ten_megabytes(self, executor: CodeExecutor) -> None:
        """In and out, as text and as data."""
        if self.lacking("data"):
            return
        with self.made(memory="2GiB") as roomy:
            text = "0123456789abcdef" * (10 << 16)
            assert roomy.execute(self.words.echo, {"x": text}).unwrap() == text
            rows = [{"id": i, "name": f"user {i}", "tags": ["a", "b"], "score": i + 0.5} for i in range(120_000)]
            assert roomy.execute(self.words.echo, {"x": rows}).unwrap() == rows

    @pytest.mark.parametrize("name", ["1a", "a-b", "a b", "", "a\0"])
    def test_names_that_are_none(self, executor: CodeExecutor, name: str) -> None:
        """A variable's name is one of the language; else the caller hears which one is not."""
        with pytest.raises(VariableError, match="variable"):
            executor.execute(self.words.number, {name: 1})

    # --- Output and errors ----------------------------------------------------------------------------------------------

    def test_output_is_kept_apart(self, executor: CodeExecutor) -> None:
        """What is written to stdout, and to stderr."""
        result = executor.execute(self.words.out_and_err)
        assert (result.error, result.stdout, result.stderr) == (None, "to out\n", "to err\n")

    def test_an_error_is_told(self, executor: CodeExecutor) -> None:
        """Its type, message, and place in the user's code; the trace has the user's own frames only."""
        error = executor.execute(self.words.raises).error
        assert error is not None
        assert (error.kind, error.type) == ("runtime", self.words.raised)
        assert error.line == 3 or "lines" in self.lacks
        assert self.words.message in error.message
        assert "dspex" not in error.traceback.replace("dspex-", "")
        if "tracebacks" not in self.lacks:
            assert self.words.message in error.traceback
        assert error.column or "columns" in self.lacks

    def test_what_cannot_be_read_is_told(self, executor: CodeExecutor) -> None:
        """With its line, before anything of it runs."""
        error = executor.execute(self.words.unreadable).error
        assert error is not None
        assert error.kind == "syntax"
        assert error.message
        assert error.line == 2 or "syntax_line" in self.lacks

    def test_an_error_harms_nobody_else(self, executor: CodeExecutor) -> None:
        """The next run knows nothing of it."""
        executor.execute(self.words.raises)
        assert executor.execute(self.words.number).unwrap() == 42

    def test_leaving_early_is_no_failure(self, executor: CodeExecutor) -> None:
        """With status 0 there is no error, and no value."""
        if self.words.exit_zero:
            result = executor.execute(self.words.exit_zero)
            assert (result.error, result.value, result.value_type) == (None, None, "SystemExit")

    # --- Limits ---------------------------------------------------------------------------------------------------------

    def test_wall_time(self) -> None:
        """`timeout`, soon after the deadline."""
        with self.made() as executor:
            executor.execute(self.words.number)
            began = time.monotonic()
            result = executor.execute(self.words.endless, timeout=0.5)
            assert result.error is not None
            assert result.error.kind == "timeout"
            assert time.monotonic() - began < 0.5 * self.patience

    def test_cpu_time(self) -> None:
        """`cpu_limit`."""
        with self.made(cpu=1.0) as executor:
            error = executor.execute(self.words.endless).error
            assert error is not None
            assert error.kind == "cpu_limit"

    def test_memory(self) -> None:
        """`memory_limit`, and the next run has all of it again."""
        with self.made(memory="256MiB") as executor:
            error = executor.execute(self.words.greedy).error
            assert error is not None
            assert error.kind == "memory_limit"
            assert executor.execute(self.words.number).unwrap() == 42

    def test_output_is_bounded(self) -> None:
        """`output_limit`; what fits is there."""
        with self.made(output="64KiB") as executor:
            result = executor.execute(self.words.flood, timeout=5)
            assert result.error is not None
            assert result.error.kind == "output_limit"
            assert len(result.stdout.encode()) <= 64 << 10

    def test_a_value_is_bounded(self) -> None:
        """`value_limit`."""
        if self.lacking("data"):
            return
        with self.made(value="100kB") as executor:
            assert len(executor.execute(self.words.text_of, {"n": 50_000}).unwrap()) == 50_000
            error = executor.execute(self.words.text_of, {"n": 200_000}).error
            assert error is not None
            assert error.kind == "value_limit"

    def test_disk_is_bounded(self) -> None:
        """`disk_limit`."""
        if self.lacking("files"):
            return
        with self.made(disk="16MiB") as executor:
            error = executor.execute(self.words.fill_disk).error
            assert error is not None
            assert error.kind == "disk_limit"

    # --- Fresh, files ---------------------------------------------------------------------------------------------------

    def test_nothing_is_left(self, executor: CodeExecutor) -> None:
        """A run finds no file of an earlier one."""
        if self.lacking("files"):
            return
        executor.execute(self.words.leave_file).unwrap()
        assert executor.execute(self.words.found).unwrap() is False

    def test_files_in(self, executor: CodeExecutor) -> None:
        """Given by name, read by name."""
        if self.lacking("files"):
            return
        assert executor.execute(self.words.read, files={"data.txt": "grün".encode()}).unwrap() == "grün"

    def test_files_out(self, executor: CodeExecutor) -> None:
        """What the program leaves in its working directory comes back."""
        if self.lacking("files"):
            return
        result = executor.execute(self.words.write)
        assert result.error is None
        assert result.files["out.txt"].read_bytes() == b"written"

    # --- Sessions -------------------------------------------------------------------------------------------------------

    def test_sessions_are_told_apart(self, executor: CodeExecutor) -> None:
        """A language without sessions says so."""
        if "sessions" in self.lacks:
            with pytest.raises(UsageError, match="session"):
                executor.session().execute(self.words.number)

    def test_names_persist(self, executor: CodeExecutor) -> None:
        """Names, functions, types and imports of one cell are there in the next."""
        if self.lacking("sessions"):
            return
        with executor.session() as session:
            for cell in self.words.define:
                assert session.execute(cell).error is None
            assert session.execute(self.words.use).unwrap() == 42

    def test_a_failed_cell_ends_nothing(self, executor: CodeExecutor) -> None:
        """Names live on."""
        if self.lacking("sessions"):
            return
        with executor.session() as session:
            for cell in self.words.define:
                session.execute(cell)
            assert session.execute(self.words.fail).error is not None
            assert session.execute(self.words.unreadable).error is not None
            assert session.execute(self.words.use).unwrap() == 42

    def test_a_session_outlives_its_deadlines(self, executor: CodeExecutor) -> None:
        """An endless loop is stopped, and the session is not; a guest that gets no turn on the processor for the tenth of a
        second between its deadline and the host's is ended, so on a busy machine one of three has to live.
        """
        if self.lacking("sessions", "soft_deadline"):
            return
        assert any(self._outlives(executor) for _ in range(3))

    def _outlives(self, executor: CodeExecutor) -> bool:
        with executor.session() as session:
            for cell in self.words.define:
                session.execute(cell)
            error = session.execute(self.words.endless, timeout=0.5).error
            assert error is not None
            assert error.kind == "timeout"
            try:
                return bool(session.execute(self.words.use).unwrap() == 42)
            except ClosedError:
                return False

    def test_interruption(self, executor: CodeExecutor) -> None:
        """`interrupt` from another thread stops the program, and not the session."""
        if self.lacking("sessions", "interruption"):
            return
        with executor.session() as session:
            assert session.execute(self.words.number).unwrap() == 42
            timer = threading.Timer(0.5, session.interrupt)
            timer.start()
            error = session.execute(self.words.endless, timeout=20).error
            timer.join()
            assert error is not None
            assert (error.kind, error.type) == ("runtime", "KeyboardInterrupt")
            assert session.execute(self.words.number).unwrap() == 42

    # --- Tools ----------------------------------------------------------------------------------------------------------

    def test_tools_are_called(self, executor: CodeExecutor) -> None:
        """By name; the call is in the result."""
        if "tools" in self.lacks:
            with pytest.raises(UsageError, match="tool"):
                executor.execute(self.words.number, tools=[double])
            return
        result = executor.execute(self.words.call, tools=[double])
        assert result.unwrap() == 42
        assert [(call.name, call.arguments) for call in result.tool_calls] == [("double", {"x": 21})]

    def test_errors_of_tools_are_errors_of_the_program(self, executor: CodeExecutor) -> None:
        """It may catch them, and reads their message."""
        if self.lacking("tools"):
            return
        result = executor.execute(self.words.call_failing, tools=[refuse])
        told = result.error.message if "data" in self.lacks and result.error else result.unwrap()
        assert "not today" in told

    def test_calls_under_way_together(self, executor: CodeExecutor) -> None:
        """Where the language awaits, it may await several."""
        if self.lacking("tools", "parallel_tools"):
            return
        assert executor.execute(self.words.call_apart, tools=[double]).unwrap() == 42

    def test_await(self, executor: CodeExecutor) -> None:
        """At the top level."""
        if self.lacking("await"):
            return
        assert executor.execute(self.words.awaited).unwrap() == 42

    def test_displays(self, executor: CodeExecutor) -> None:
        """What is shown comes back by its MIME type."""
        if self.lacking("displays"):
            return
        (shown,) = executor.execute(self.words.show).displays
        assert shown.data["text/html"] == "<b>shown</b>"

    # --- Many -----------------------------------------------------------------------------------------------------------

    def test_many_at_once(self, executor: CodeExecutor) -> None:
        """From many threads, each with its own answer."""
        with ThreadPoolExecutor(16) as threads:
            runs = [threads.submit(executor.execute, self.words.add, {"x": i, "y": 1}) for i in range(48)]
            assert [run.result().unwrap() for run in runs] == list(range(1, 49))

    def test_map(self, executor: CodeExecutor) -> None:
        """In order."""
        assert [result.unwrap() for result in executor.map([self.words.number] * 12)] == [42] * 12

    def test_nothing_remains_after_closing(self) -> None:
        """No process, whatever was under way."""
        before = _launchers()
        executor = self.made()
        executor.execute(self.words.number)
        run = executor.submit(self.words.endless)
        time.sleep(0.3)
        executor.close()
        assert run.exception(timeout=30) is not None or run.result().error is not None
        assert len(_launchers()) <= len(before)  # the class's own executor may have started another meanwhile


def _as_text(value: Any) -> Any:
    """What comes back from a language whose texts are bytes: a text, where they are one."""
    match value:
        case list():
            return [_as_text(item) for item in value]
        case dict():
            return {key: _as_text(item) for key, item in value.items()}
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value
    return value


def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


def refuse(x: int) -> int:
    """Never."""
    raise ValueError("not today")


def _launchers() -> set[int]:
    """The processes that this one has started and not reaped."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                found |= {*map(int, file.read().split())}
        except FileNotFoundError:  # the thread has just ended, and left its children to another
            continue
    return found
