"""An encrypted store by its URL alone, for the suite of stores and the processes that it starts."""

from dspex.stores import encrypted, open_store

KEY = b"k" * 32


def open_sealed(url):
    """The store at a URL, behind the key of the tests."""
    return encrypted(open_store(url), KEY)
