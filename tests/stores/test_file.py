"""The store in a directory of files."""

import pytest

from dspex.testing import StoreSuite


class TestFile(StoreSuite):
    """It passes the suite."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"file:///{tmp_path}/states"
