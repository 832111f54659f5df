"""`BestOfN`: DSPy's, with each attempt's code in a branch of one session, which goes on from the best.

Theory of operation. DSPy's own BestOfN makes the attempts and judges them, on a copy of the module in which whatever runs code
is given branches by a factory of ours. A module shuts down what a factory made for it as soon as it is done; a branch shrugs
that off, for its attempt may yet turn out to be the best.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import dspy

from dspex.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.integrations.dspy._interpreter import Interpreter

_PLACE: Final = "_interpreter_factory"  # where DSPy's modules that run code keep their factory


class BestOfN(dspy.Module):
    """Try `module` up to `N` times, each time from where `interpreter` stands, and let that become what the best one left.

    As `dspy.BestOfN` does it: each attempt has another rollout id, the first whose reward reaches `threshold` is taken, else
    the best. What costs time is prepared once, in `interpreter`: packages, tables, a model. It stays the caller's, who shuts
    it down. With `keep=False` it stays as it is, and calls from several threads do not meddle. Where all attempts fail it
    stays as it is too, and the result is None.

    Raises `UsageError` for a module that runs no code, `CodeInterpreterError` where sessions cannot be branched.
    """

    def __init__(
        self,
        module: dspy.Module,
        N: int,  # noqa: N803  (the name is DSPy's)
        reward_fn: Callable[[dict[str, Any], dspy.Prediction], float],
        threshold: float,
        fail_count: int | None = None,
        *,
        interpreter: Interpreter,
        keep: bool = True,
    ) -> None:
        super().__init__()
        if not _runners(module):
            raise UsageError(
                f"{type(module).__name__} runs no code in sessions, nor does a module in it; use dspy.BestOfN"
            )
        self.module = module
        self.N = N
        self.reward_fn = _Apart(reward_fn)
        self.threshold = threshold
        self.fail_count = fail_count
        self.interpreter = _Apart(interpreter)
        self.keep = keep

    def forward(self, **inputs: Any) -> Any:
        """The best attempt's prediction; None where each one failed."""
        branches = _Branches(self.interpreter.it)
        tried = self.module.deepcopy()
        for runner in _runners(tried):
            setattr(runner, _PLACE, branches)
        try:
            best = dspy.BestOfN(tried, self.N, branches.judging(self.reward_fn.it), self.threshold, self.fail_count)(
                **inputs
            )
            if self.keep and branches.winner is not None:
                self.interpreter.it.become(branches.winner)
            return best
        finally:
            branches.close()


class _Apart:
    """What is no part of the program: a module in it is not found, and copies share it."""

    def __init__(self, it: Any) -> None:
        self.it = it

    def __deepcopy__(self, _: object) -> _Apart:
        return self


class _Branches:
    """A factory that branches one interpreter, and knows where the best attempt so far ended."""

    def __init__(self, trunk: Interpreter) -> None:
        self._trunk = trunk
        self._made: list[Interpreter] = []
        self._best = -math.inf
        self.ended: Interpreter | None = (
            None  # the one that was done last: whatever runs inside another is done before it
        )
        self.winner: Interpreter | None = None
        self.execution_instructions = trunk.execution_instructions

    def __call__(self) -> dspy.CodeInterpreter:
        branch = self._trunk.fork()
        self._made.append(branch)
        return _Lent(branch, self)

    def __deepcopy__(self, _: object) -> _Branches:
        return self

    def judging(self, reward: Callable[..., float]) -> Callable[..., float]:
        """`reward`, and what follows from its numbers."""

        def judged(*args: Any) -> float:
            number = reward(*args)
            if number > self._best:
                self._best, self.winner = number, self.ended
            self.close(besides=self.winner)
            return number

        return judged

    def close(self, besides: Interpreter | None = None) -> None:
        """Shut down all branches but one."""
        for branch in self._made:
            if branch is not besides:
                branch.shutdown()
        self._made = [] if besides is None else [besides]


class _Lent:
    """A branch that outlives its shutdown by the module that it was lent to."""

    def __init__(self, branch: Interpreter, branches: _Branches) -> None:
        vars(self).update(_branch=branch, _branches=branches)

    @property
    def tools(self) -> Any:
        return self._branch.tools

    def start(self) -> None:
        self._branch.start()

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        return self._branch.execute(code, variables)

    def shutdown(self) -> None:
        self._branches.ended = self._branch

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_branch"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._branch, name, value)


def _runners(module: dspy.Module) -> list[Any]:
    """The modules in this one that run code, but for Flex, which hands its factory on when it is made."""
    found = (found for _, found in module.named_sub_modules())
    return [one for one in found if hasattr(one, _PLACE) and not isinstance(one, dspy.Flex)]
