from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings

# Examples are timed by the wall clock, which a busy machine stretches.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

# The asyncio plugin remembers the current event loop before its first test. When there is none, Python 3.11 makes one
# for it, which nobody closes, and its ResourceWarning then fails whichever test is running. Say that there is none.
asyncio.set_event_loop(None)
