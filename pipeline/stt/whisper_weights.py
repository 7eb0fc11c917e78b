"""The weights of Whisper, which its packages hold as a file of CTranslate2. Source: ``model_spec.py`` there."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.engine import EngineError

VERSION = 6
"""Of the format."""

DTYPES = ("<f4", "i1", "<i2", "<i4", "<f2")
"""By their number in the file."""

HEADS, WIDTH = 8, 64
"""Of every attention of the model."""

Weights = dict[str, NDArray[Any]]
Floats = NDArray[np.float32]


def layers(weights: Weights, network: str) -> int:
    """How many layers the ``encoder`` or the ``decoder`` has."""
    return sum(name.startswith(f"{network}/layer_") and name.endswith("/ffn/linear_0/bias") for name in weights)


def read_weights(content: bytes) -> Weights:
    """Each array by its name, as a view of ``content``. Raises ``EngineError`` when it is damaged."""
    try:
        return _Reader(content).weights()
    except (struct.error, ValueError, IndexError, UnicodeDecodeError):
        raise EngineError("its model is damaged") from None


class _Reader:
    """Little-endian: the version, the name of the model and its revision, and the number of arrays. Of each its name,
    the number of its dimensions and each of them, the number of its type, and its bytes behind their number.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def weights(self) -> Weights:
        if self._number("<I") != VERSION:
            raise ValueError
        self._name()
        self._number("<I")
        return dict(self._array() for _ in range(self._number("<I")))

    def _array(self) -> tuple[str, NDArray[Any]]:
        name = self._name()
        shape = [self._number("<I") for _ in range(self._number("<B"))]
        dtype = np.dtype(DTYPES[self._number("<B")])
        size = self._number("<I")
        array = np.frombuffer(self._content, dtype, size // dtype.itemsize, self._at).reshape(shape)
        self._at += size
        return name, array

    def _name(self) -> str:
        """UTF-8 with a zero behind it, after the number of both."""
        end = self._number("<H") + self._at
        name = self._content[self._at : end - 1].decode()
        self._at = end
        return name

    def _number(self, kind: str) -> int:
        [number] = struct.unpack_from(kind, self._content, self._at)
        self._at += struct.calcsize(kind)
        return int(number)
