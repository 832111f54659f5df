"""A test that takes `url` runs once for each store."""

import pytest

from statestores import DURABLE, STORES, url_of


@pytest.fixture(params=STORES)
def url(request, tmp_path):
    """The URL of a new store, of each kind in turn."""
    return url_of(request.param, tmp_path)


@pytest.fixture(params=DURABLE)
def durable_url(request, tmp_path):
    """The URL of a new store that other processes may use and that survives them, of each kind in turn."""
    return url_of(request.param, tmp_path)
