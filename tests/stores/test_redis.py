"""The store in Redis, against real servers: one that writes to disk before it answers, and one that never does."""

import pytest

import servers
from dspex.testing import StoreSuite


def url_of(server, prefix="dspex", *, password=servers.PASSWORD):
    return f"redis://:{password}@{server.address}/0?prefix={prefix}"


class TestDurableRedis(StoreSuite):
    """With AOF and a sync of every write, it passes the suite."""

    @pytest.fixture
    def url(self, durable_redis, name):
        return url_of(durable_redis, name)


class TestPlainRedis(StoreSuite):
    """With memory only, it passes the suite: what it does not promise is not asked of it."""

    @pytest.fixture
    def url(self, plain_redis, name):
        return url_of(plain_redis, name)
