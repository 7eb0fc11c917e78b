"""All benchmarks, one after the other: ``python -m bench``."""

import asyncio

from bench import audio, calls, ears, engines, media, observers, reception
from config.settings import Settings

if __name__ == "__main__":  # processes of callers import this module once more
    asyncio.run(media.main())
    asyncio.run(calls.main())
    asyncio.run(observers.main())
    asyncio.run(reception.main())
    audio.main()
    asyncio.run(engines.main(Settings.load().models_dir))
    asyncio.run(ears.main(Settings.load().models_dir))
