"""All benchmarks, one after the other: ``python -m bench``."""

from bench import audio, engines

audio.main()
engines.main()
