"""Calls one after the other, and what they leave: `python -m bench.endurance [calls]`, one JSON object a line.

Not part of ``make bench``: 500 calls take half a minute. Caller and server share the process, each call is a real one.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from bench.engines import show
from media.engine import MediaEngine
from media.ortc import new_certificate
from tests.media.test_many_calls import WARM_UP, footprint, one_call


async def main(count: int) -> None:
    engine = MediaEngine(addresses=["127.0.0.1"])
    await engine.start()
    certificate = new_certificate()
    for number in range(WARM_UP):
        await one_call(engine, certificate, number)
    before, blocks, size = await footprint(engine), sys.getallocatedblocks(), peak()
    began = time.perf_counter()
    for number in range(count):
        await one_call(engine, certificate, number)
    seconds = time.perf_counter() - began
    after = await footprint(engine)
    show(
        "calls one after the other",
        calls=count,
        ms_per_call=seconds * 1e3 / count,
        tasks_left=after.tasks - before.tasks,
        descriptors_left=after.descriptors - before.descriptors,
        objects_left=(after.objects - before.objects).total(),
        blocks_left=sys.getallocatedblocks() - blocks,
        peak_memory_grew_kb=peak() - size,
    )
    await engine.close()


def peak() -> int:
    """Largest resident set so far, KB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
