"""Who may shake hands: some at once, few of one address, so many in a second. In virtual time."""

from __future__ import annotations

import asyncio

import pytest

from media.handshakes import Handshakes
from tests.virtual_time import run


class Watch:
    """Handshakes that take ``seconds`` each, of whom it is known when they began and how many ran at once."""

    def __init__(self, handshakes: Handshakes, seconds: float) -> None:
        self.handshakes = handshakes
        self.seconds = seconds
        self.began: list[tuple[float, str]] = []
        self.running: list[str] = []
        self.most: dict[str, int] = {}

    async def shake(self, address: str) -> None:
        async with self.handshakes.turn(lambda: address):
            self.began.append((asyncio.get_running_loop().time(), address))
            self.running.append(address)
            for name, count in (("all", len(self.running)), (address, self.running.count(address))):
                self.most[name] = max(count, self.most.get(name, 0))
            await asyncio.sleep(self.seconds)
            self.running.remove(address)


def test_a_stalling_address_leaves_room_for_others() -> None:
    async def main() -> None:
        watch = Watch(Handshakes(at_once=4, each=2, rate=1000), 3.0)
        await asyncio.gather(*(watch.shake("bad") for _ in range(6)), watch.shake("good"), watch.shake("fine"))
        assert watch.most == {"all": 4, "bad": 2, "good": 1, "fine": 1}
        assert [address for at, address in watch.began if at < 1] == ["bad", "bad", "good", "fine"]
        assert len(watch.handshakes) == 0

    run(main())


@pytest.mark.parametrize("rate", [10, 50])
def test_they_begin_no_faster_than_the_rate_after_a_burst(rate: int) -> None:
    async def main() -> None:
        watch = Watch(Handshakes(at_once=100, each=100, rate=rate, burst=5), 0.0)
        await asyncio.sleep(10)
        await asyncio.gather(*(watch.shake(str(number)) for number in range(25)))
        moments = [at - 10 for at, _ in watch.began]
        assert moments[:5] == [0] * 5
        assert moments[5:] == pytest.approx([(number + 1) / rate for number in range(20)])

    run(main())


def test_who_gives_up_or_fails_leaves_the_place() -> None:
    async def main() -> None:
        watch = Watch(Handshakes(at_once=1, each=1), 5.0)
        first, second = (asyncio.create_task(watch.shake(name)) for name in "ab")
        await asyncio.sleep(1)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            async with watch.handshakes.turn(lambda: "c"):
                raise ZeroDivisionError
        assert len(watch.handshakes) == 0
        await watch.shake("d")
        assert watch.began[-1][1] == "d"

    run(main())
