"""The stores that the tests of versions run against: a test that takes `url` runs once for each."""

import pytest

STORES = ("memory", "sqlite", "file")
DURABLE = ("sqlite", "file")


def url_of(kind, directory):
    """The URL of a new store of a kind, in a directory."""
    if kind == "memory":
        return "memory://"
    return {"sqlite": f"sqlite:///{directory}/states.db", "file": f"file:///{directory}/states"}[kind]


@pytest.fixture(params=STORES)
def url(request, tmp_path):
    """The URL of a new store, of each kind in turn."""
    return url_of(request.param, tmp_path)


@pytest.fixture(params=DURABLE)
def durable_url(request, tmp_path):
    """The URL of a new store that other processes may use and that survives them, of each kind in turn."""
    return url_of(request.param, tmp_path)
