"""The stores that the tests of versions run against, and where to put a new one."""

STORES = ("memory", "sqlite", "file")
DURABLE = ("sqlite", "file")  # other processes may use them, and they survive these


def url_of(kind, directory):
    """The URL of a new store of a kind, in a directory."""
    if kind == "memory":
        return "memory://"
    return {"sqlite": f"sqlite:///{directory}/states.db", "file": f"file:///{directory}/states"}[kind]
