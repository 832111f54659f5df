"""From a name to a connection: what one guest may take of what all have."""

import asyncio

import pytest

from dspex._network._outward import SparingConnector


class Slow:
    """A resolver whose answers come when `go` is set; counts how many are under way."""

    def __init__(self):
        self.go = asyncio.Event()
        self.under_way = 0

    async def addresses(self, name, port):
        self.under_way += 1
        await self.go.wait()
        self.under_way -= 1
        if name == "none.test":
            raise OSError("no such name")
        return ["93.184.216.34"]


async def _settled():
    for _ in range(10):
        await asyncio.sleep(0)


def test_one_guest_has_two_names_resolved_at_once():
    """The others wait for their turn, and get it."""

    async def main():
        slow = Slow()
        sparing = SparingConnector(slow)
        asked = [asyncio.create_task(sparing.addresses(f"n{n}.test", 443)) for n in range(20)]
        await _settled()
        assert slow.under_way == 2
        slow.go.set()
        assert await asyncio.gather(*asked) == [["93.184.216.34"]] * 20

    asyncio.run(main())


def test_a_name_that_was_given_up_counts_until_its_thread_is_done():
    """A thread that resolves cannot be stopped: giving up early makes no room for more of them."""

    async def main():
        slow = Slow()
        sparing = SparingConnector(slow)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.gather(*(sparing.addresses("none.test", 443) for _ in range(5)))
            assert slow.under_way == 2
        slow.go.set()
        with pytest.raises(OSError, match="no such name"):
            await sparing.addresses("none.test", 443)
        assert await sparing.addresses("a.test", 443) == ["93.184.216.34"]

    asyncio.run(main())
