"""Every store, as the manager's tests have them: an empty one for each test, by its URL."""

import pytest

SERVERS = ("postgresql", "redis", "etcd")


def url_of(kind, request, tmp_path, name):
    """The URL of an empty store; its server is started when first needed."""
    if kind == "memory":
        return "memory://"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/states.db"
    if kind == "file":
        return f"file:///{tmp_path}/states"
    if kind == "etcd":
        return f"etcd://{request.getfixturevalue('etcd').address}/{name}"
    if kind == "redis":
        address = request.getfixturevalue("durable_redis").address
        return f"redis://:{servers_password()}@{address}/0?prefix={name}"
    address = request.getfixturevalue("postgres").address
    return f"postgresql://dspex:{servers_password()}@{address}/postgres?schema={name}"


def servers_password():
    import servers

    return servers.PASSWORD


@pytest.fixture(params=("memory", "sqlite", "file", *SERVERS))
def url(request, tmp_path, store_name):
    """Each store there is."""
    return url_of(request.param, request, tmp_path, store_name)


@pytest.fixture(params=SERVERS)
def server_url(request, tmp_path, store_name):
    """Each store that is a server."""
    return url_of(request.param, request, tmp_path, store_name)


@pytest.fixture(params=("sqlite", "file"))
def durable_url(request, tmp_path, store_name):
    """Each store that is files of this machine: other processes may use it, and it survives them."""
    return url_of(request.param, request, tmp_path, store_name)
