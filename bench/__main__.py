"""All benchmarks, one after the other: ``python -m bench``."""

import asyncio

from bench import audio, ears, engines, media
from config.settings import Settings

asyncio.run(media.main())
audio.main()
asyncio.run(engines.main(Settings.load().models_dir))
asyncio.run(ears.main(Settings.load().models_dir))
