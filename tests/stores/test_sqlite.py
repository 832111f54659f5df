"""The store in an SQLite file."""

import pytest

from dspex.testing import StoreSuite


class TestSqlite(StoreSuite):
    """It passes the suite."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/states.db"
