"""What every engine shares: its error, and the set of engines that a server has."""

from __future__ import annotations


class EngineError(Exception):
    """An engine is missing, failed or was too slow. The text is fit for a person and holds no secret."""
