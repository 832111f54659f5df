"""The store in memory."""

import pytest

from dspex.stores import open_store
from dspex.testing import StoreSuite


class TestMemory(StoreSuite):
    """It passes the suite."""

    @pytest.fixture
    def url(self):
        return "memory://"


def test_each_is_its_own():
    """Two stores in memory share nothing."""
    assert open_store("memory://") is not open_store("memory://")
