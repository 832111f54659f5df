"""Erlang, by the guest of Elixir: the same machine, another reader."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dspex.errors import VariableError
from dspex.languages._elixir import Elixir
from dspex.languages._foreign import Foreign

if TYPE_CHECKING:
    from dspex.languages._base import Request


class Erlang(Elixir):
    """Erlang, one machine for each fresh run, started ahead. A variable `rows` of the host is `Rows` in the program."""

    name = "erlang"
    dialect = "erlang"
    keywords = frozenset()  # variables begin with a capital, which no keyword does
    carried = Foreign.carried - {"float", "set", "frozenset"}

    def name_fault(self, name: object) -> str:
        """See `Foreign.name_fault`."""
        if isinstance(name, str) and not re.fullmatch(r"[A-Za-z]\w*|_\w+", name, re.ASCII):
            return "is not a name in erlang: use letters of English, digits and _, with no digit first"
        return super(Elixir, self).name_fault(name)

    def check_names(self, request: Request) -> None:
        """See `Foreign.check_names`: two names that differ in the case of their first letter alone are one in Erlang."""
        super().check_names(request)
        seen: dict[str, str] = {}
        for name in request.variables:
            other = seen.setdefault(name[:1].upper() + name[1:], name)
            if other != name:
                raise VariableError(f"variables {other!r} and {name!r} are one name in erlang; rename one", path=name)
