"""What the tests of this directory share."""

import pytest

from dspex import CodeExecutor
from dspex.errors import IsolationError


@pytest.fixture(params=["namespaces", "landlock"])
def level(request):
    """Each level of isolation that this host can enforce."""
    with CodeExecutor(max_concurrency=1, isolation=request.param) as executor:
        try:
            executor.execute("1")
        except IsolationError as error:
            pytest.skip(str(error))
    return request.param
