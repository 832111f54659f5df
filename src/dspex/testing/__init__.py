"""Conformance suites: what anything that plugs into dspex must pass. Subclass one in a test file of your own.

    from dspex.testing import StoreSuite

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def url(self, tmp_path):
            return f"mine:///{tmp_path}/store"

Needs pytest and hypothesis.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dspex.testing._languages import LanguageSuite as LanguageSuite
    from dspex.testing._languages import Words as Words
    from dspex.testing._stores import StoreSuite as StoreSuite

_HOMES = {
    "LanguageSuite": "dspex.testing._languages",
    "StoreSuite": "dspex.testing._stores",
    "Words": "dspex.testing._languages",
}
__all__ = ["LanguageSuite", "StoreSuite", "Words"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dspex.testing' has no attribute {name!r}")
