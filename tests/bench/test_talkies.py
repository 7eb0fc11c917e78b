"""The archives of the games, packed by hand: what is in them comes out, and damage is told."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest

from bench.turns import talkies


def packed(*, length: int = 6) -> bytes:
    """``abcabc``: three literals, then three bytes from three back."""
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend(value >> n & 1 for n in range(count))

    put(0, 2)
    put(3, 5)  # literals: the third code, 1 bit long, stands for 2 or 3; the first for none
    for size in (1, 0, 1):
        put(size, 4)
    put(3, 5)  # distances: the third, for 2 or 3, and one that is not used
    for size in (1, 0, 1):
        put(size, 4)
    put(2, 5)  # lengths: the second, for 1
    for size in (1, 1):
        put(size, 4)
    put(2, 16)
    put(1, 1), put(1, 1)  # three literals
    literals_at = len(bits)
    put(1, 1), put(0, 1)  # distance 2 + 1
    put(1, 1)  # length 1 + 2
    put(0, 1)  # no literals
    words = [bits[at : at + 16] for at in range(0, len(bits), 16)]
    raw = [sum(bit << n for n, bit in enumerate(word)).to_bytes(2, "little") for word in words]
    ahead = literals_at // 16 + 1  # the word that is read ahead stands behind the literals
    body = b"".join(raw[:ahead]) + b"abc" + b"".join(raw[ahead:])
    return b"RNC\x01" + struct.pack(">IIHHBB", length, len(body), 0, 0, 0, 1) + body


def test_what_was_packed_comes_out() -> None:
    assert talkies.inflate(packed()) == b"abcabc"


@pytest.mark.parametrize("damaged", [b"", b"RNC\x02" + bytes(20), packed()[:24], packed(length=7)])
def test_damage_is_told(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        talkies.inflate(damaged)


def test_the_lines_of_the_queen_come_out(tmp_path: Path) -> None:
    rows = [("020001P1.SB", b"one"), ("020001P2.SB", b"two"), ("07SSSSSS.SB", b"noise"), ("A.TXT", b"text")]
    at = 15 + 21 * len(rows)
    table = b""
    for name, content in rows:
        table += struct.pack(">12sBII", name.encode(), 1, at, len(content))
        at += len(content)
    folder = tmp_path / "usr/share/scummvm" / talkies.QUEEN
    folder.mkdir(parents=True)
    head = b"QTBLCEM10" + bytes(3) + b"\x01" + struct.pack(">H", len(rows))
    (folder / "queen.1c").write_bytes(head + table + b"".join(content for _, content in rows))
    talkies.unpack(tmp_path)
    lines = {path.name: path.read_bytes() for path in (tmp_path / "lines").iterdir()}
    assert lines == {"020001P1.mp3": b"one", "020001P2.mp3": b"two"}
    assert talkies.whole_turns(["020001P1", "020001P2", "020002J1"]) == ["020001P2", "020002J1"]


def test_the_lines_of_the_sky_come_out(tmp_path: Path) -> None:
    content = bytes(talkies.HEADER) + packed()
    rows = [(50_007, 32, len(content)), (123, 32, len(content)), (60_001, 0, 10)]
    folder = tmp_path / "usr/share/scummvm" / talkies.SKY
    folder.mkdir(parents=True)
    table = struct.pack("<I", len(rows))
    for number, at, size in rows:
        place = at >> 4 | 1 << 23
        table += struct.pack("<H", number) + place.to_bytes(3, "little") + size.to_bytes(3, "little")
    (folder / "sky.dnr").write_bytes(table)
    (folder / "sky.dsk").write_bytes(bytes(32) + content)
    talkies.unpack(tmp_path)
    [line] = (tmp_path / "lines").iterdir()
    assert line.name == "50007.wav"
    with wave.open(str(line)) as file:
        assert (file.getframerate(), file.readframes(10)) == (11_025, b"abcabc")
