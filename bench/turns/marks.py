"""``python -m bench.turns.marks``: what recognisers write behind words that are cut, and behind those that are all.

The voices of the half ``tune`` say its texts with a comma wherever they may pause; the sound is cut there and
recognised. Prints, for each language and mark, how often it stood at a break, a possible end and an end.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter

import numpy as np

from bench.turns.completeness import BREAK, END, HERE, POSSIBLE, places
from bench.turns.items import LANGUAGES, VOICES
from bench.turns.senses import _transcribe
from bench.turns.sounds import Sound, samples, to_pcm
from bench.turns.voices import Speech, say
from media.audio import INPUT_RATE

NEAR = 0.12
"""s between the beginning of a word and the end of the gap in front of it."""

HISS = 3e-4


def before(said: Speech, number: int) -> Sound | None:
    """The sound in front of a word, if there is a gap."""
    if number >= len(said.words):
        return None
    begin = said.words[number][0] * INPUT_RATE
    gaps = [gap for gap in said.gaps if abs(gap[1] - begin) < NEAR * INPUT_RATE]
    return said.sound[: max(gaps, key=lambda gap: gap[1] - gap[0])[0]] if gaps else None


def main() -> int:
    rng = np.random.default_rng(1)
    texts = tomllib.loads((HERE / "texts.toml").read_text(encoding="utf-8"))["tune"]
    for language in LANGUAGES:
        found: Counter[str] = Counter()
        voices = VOICES["tune", language]
        for number, line in enumerate(texts[language]["turns"]):
            words = [word for word in line.split() if word not in (BREAK, POSSIBLE)]
            for at, place in enumerate(places(line), 1):
                if place.kind not in (BREAK, POSSIBLE, END):
                    continue
                behind = f", {' '.join(words[at:])}" if place.kind != END else words[-1][-1]
                said = say(voices[number % len(voices)], place.text + behind)
                sound = said.sound if place.kind == END else before(said, at)
                if sound is not None:
                    quiet = np.pad(sound, (samples(0.2), samples(0.3)))
                    heard = quiet + rng.normal(0, HISS, len(quiet))
                    text = _transcribe(to_pcm(heard.astype(np.float32)), language).text.rstrip()
                    mark = "..." if text.endswith("...") else text[-1:]
                    found[f"{place.kind} {'none' if mark.isalnum() else mark}"] += 1
        print(json.dumps({"language": language, **dict(sorted(found.items()))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
