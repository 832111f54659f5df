"""The store in PostgreSQL, against a real server."""

import pytest

import servers
from dspex.testing import StoreSuite


def url_of(server, schema="dspex", *, password=servers.PASSWORD, database="postgres"):
    return f"postgresql://dspex:{password}@{server.address}/{database}?schema={schema}"


class TestPostgres(StoreSuite):
    """It passes the suite."""

    @pytest.fixture
    def url(self, postgres, name):
        return url_of(postgres, name)
