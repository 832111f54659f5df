"""Servers for the tests that need one: each is started once, and a test has a schema or a prefix of its own in it."""

import itertools

import pytest

import servers

_names = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL server that nobody kills."""
    server = servers.postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def durable_redis(tmp_path_factory):
    """A Redis server that writes every change to disk before it answers."""
    server = servers.redis(tmp_path_factory.mktemp("redis"), "appendonly yes", "appendfsync always")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def plain_redis(tmp_path_factory):
    """A Redis server that keeps everything in memory only."""
    server = servers.redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory):
    """An etcd server that nobody kills."""
    server = servers.etcd(tmp_path_factory.mktemp("etcd"))
    yield server
    server.stop()


@pytest.fixture
def name():
    """A name that no other test has."""
    return f"store{next(_names)}"


@pytest.fixture
def store_name():
    """The same, for tests that have names of their own."""
    return f"store{next(_names)}"
