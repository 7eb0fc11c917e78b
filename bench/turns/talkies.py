"""The spoken lines of two adventure games that Debian carries: people who act, and talk to each other.

Both were given away by their makers. Formats as their free engine (ScummVM) reads them.
"""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator
from pathlib import Path

QUEEN, SKY = "flight-of-the-amazon-queen", "beneath-a-steel-sky"

ENTRY = struct.Struct(">12sBII")
"""Of the Queen's table: name, file, place, size."""

SKY_RATE = 11_025
"""Hz of the Sky's 8-bit sound."""

HEADER = 22
"""Bytes in front of each file of the Sky."""


def unpack(package: Path) -> None:
    """Write each line of a game that was unpacked in this folder into a file of ``lines``."""
    games = package / "usr/share/scummvm"
    lines = package / "lines"
    for name, read in ((QUEEN, _queen), (SKY, _sky)):
        if (folder := games / name).exists() and not lines.exists():
            fresh = package / "lines.new"
            fresh.mkdir(exist_ok=True)
            for file, content in read(folder):
                if isinstance(content, bytes):
                    (fresh / file).write_bytes(content)
                else:
                    _write_wav(fresh / file, content)
            fresh.rename(lines)


def whole_turns(names: list[str]) -> list[str]:
    """Of the Queen's files those that end a turn: the last sign numbers the parts of one."""
    known = set(names)
    return [name for name in names if f"{name[:-1]}{int(name[-1]) + 1}" not in known]


def _queen(folder: Path) -> Iterator[tuple[str, bytes]]:
    """MP3 files by name: place, line, who speaks (J is the hero), part."""
    data = (folder / "queen.1c").read_bytes()
    [count] = struct.unpack_from(">H", data, 13)
    for number in range(count):
        raw, _, at, size = ENTRY.unpack_from(data, 15 + number * ENTRY.size)
        stem, _, suffix = raw.rstrip(b"\0").decode("ascii").partition(".")
        if suffix == "SB" and stem[-1].isdigit():  # the others are noises
            yield f"{stem}.mp3", data[at : at + size]


def _sky(folder: Path) -> Iterator[tuple[str, bytearray]]:
    """Samples by number."""
    table, disk = (folder / "sky.dnr").read_bytes(), (folder / "sky.dsk").read_bytes()
    [count] = struct.unpack_from("<I", table)
    for row in range(count):
        [number] = struct.unpack_from("<H", table, 4 + 8 * row)
        place = int.from_bytes(table[6 + 8 * row : 9 + 8 * row], "little")
        size = int.from_bytes(table[9 + 8 * row : 12 + 8 * row], "little") & 0x3FFFFF
        at = (place & 0x7FFFFF) << (4 if place >> 23 else 0)
        packed = disk[at + HEADER : at + size]
        if number >= 50_000 and packed[:4] == b"RNC\x01":
            yield f"{number}.wav", inflate(packed)


def _write_wav(path: Path, samples: bytearray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(SKY_RATE)
        file.writeframes(samples)


def inflate(packed: bytes) -> bytearray:
    """Undo Rob Northen's compression, first method: three Huffman tables a block, for literals, distances and lengths.

    Raises ``ValueError`` for what is not packed so.
    """
    if packed[:4] != b"RNC\x01" or len(packed) < 18:
        raise ValueError("not compressed by the first method")
    length, size = struct.unpack_from(">II", packed, 4)
    bits = _Bits(packed[18 : 18 + size])
    out = bytearray()
    bits.read(2)
    for _ in range(packed[17]):
        literals, distances, lengths = bits.table(), bits.table(), bits.table()
        for left in reversed(range(bits.read(16))):
            out += bits.take(bits.decode(literals))
            if left:
                back, count = bits.decode(distances) + 1, bits.decode(lengths) + 2
                if back > len(out):
                    raise ValueError("a distance that leads before the beginning")
                for _ in range(count):
                    out.append(out[-back])
    if len(out) != length:
        raise ValueError(f"{len(out)} bytes, not {length}")
    return out


Table = list[tuple[int, int, int]]
"""Length of a code in bits, the code as it is read, what it stands for."""


class _Bits:
    """Bits in words of 16, least significant first, between which whole bytes stand."""

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(4)
        self._at = 0  # of the last word that was read
        self._held = int.from_bytes(self._data[:2], "little")
        self._count = 16

    def read(self, count: int) -> int:
        value = self._held & ((1 << count) - 1)
        self._held >>= count
        self._count -= count
        if self._count < 16:
            self._at += 2
            self._hold()
        return value

    def take(self, count: int) -> bytes:
        """Whole bytes: they stand where the word was read ahead, which is read again behind them."""
        taken = self._data[self._at : self._at + count]
        if count:
            self._at += count
            self._count -= 16
            self._held &= (1 << self._count) - 1
            self._hold()
        return taken

    def table(self) -> Table:
        lengths = [self.read(4) for _ in range(self.read(5))]
        table: Table = []
        code = 0
        for length in range(1, 17):
            for symbol, own in enumerate(lengths):
                if own == length:
                    table.append((length, int(f"{code:0{length}b}"[::-1], 2), symbol))
                    code += 1
            code <<= 1
        return table

    def decode(self, table: Table) -> int:
        for length, code, symbol in table:
            if self._held & ((1 << length) - 1) == code:
                self.read(length)
                return symbol if symbol < 2 else 1 << (symbol - 1) | self.read(symbol - 1)
        raise ValueError("a code that is not in the table")

    def _hold(self) -> None:
        if self._at >= len(self._data):
            raise ValueError("cut off")
        self._held |= int.from_bytes(self._data[self._at : self._at + 2], "little") << self._count
        self._count += 16
