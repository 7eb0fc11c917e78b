"""Sounds that are no words, made by rule: noise, coughs, keys, a door, a hum, music, and the room between two ends.

Everything is float32 at ``INPUT_RATE``, -1 to 1, and depends on nothing but the generator that is handed in.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from media.audio import INPUT_RATE, Pcm

Sound = NDArray[np.float32]

SEMITONE = 2 ** (1 / 12)


def samples(seconds: float) -> int:
    return round(seconds * INPUT_RATE)


def silence(seconds: float) -> Sound:
    return np.zeros(samples(seconds), np.float32)


def decibels(gain: float) -> float:
    """The factor of a gain in dB."""
    return float(10 ** (gain / 20))


def to_pcm(sound: Sound) -> Pcm:
    pcm: Pcm = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
    return pcm


def rms(sound: Sound) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)) + 1e-20))


def shaped(noise: Sound, response: NDArray[np.float64]) -> Sound:
    """Filter by a response that is given at equal steps from 0 Hz to half the rate."""
    spectrum = np.fft.rfft(noise)
    gains = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, len(response)), response)
    out: Sound = np.fft.irfft(spectrum * gains, len(noise)).astype(np.float32)
    return out


def pink(rng: Generator, length: int) -> Sound:
    """Noise that falls by 3 dB an octave above 50 Hz, of RMS 1."""
    frequency = np.maximum(np.linspace(0, INPUT_RATE / 2, 4097), 50)
    noise = shaped(rng.standard_normal(length).astype(np.float32), (frequency / 50) ** -0.5)
    return noise / np.float32(rms(noise))


def resonant(rng: Generator, length: int, *formants: tuple[float, float, float]) -> Sound:
    """Noise through resonances of (Hz, bandwidth in Hz, gain), of RMS 1."""
    frequency = np.linspace(0, INPUT_RATE / 2, 1025)
    response = sum(gain / (1 + ((frequency - centre) / (width / 2)) ** 2) for centre, width, gain in formants)
    noise = shaped(rng.standard_normal(length).astype(np.float32), np.sqrt(np.asarray(response)))
    return noise / np.float32(rms(noise))


def burst(length: int, attack: float, decay: float) -> Sound:
    """An envelope that rises in ``attack`` and falls with the time constant ``decay``, s."""
    time = np.arange(length) / INPUT_RATE
    out: Sound = (np.minimum(time / attack, 1) * np.exp(-np.maximum(time - attack, 0) / decay)).astype(np.float32)
    return out


def pulses(pitch: NDArray[np.float64], *formants: tuple[float, float, float]) -> Sound:
    """A voice: glottal pulses of a pitch (Hz, a value a sample) through resonances, of RMS 1."""
    phase = np.cumsum(pitch) / INPUT_RATE
    source = (-2 * (phase % 1) + 1).astype(np.float32)  # a saw tooth falls by 6 dB an octave, as the throat does
    frequency = np.linspace(0, INPUT_RATE / 2, 1025)
    response = sum(gain / (1 + ((frequency - centre) / (width / 2)) ** 2) for centre, width, gain in formants)
    voice = shaped(source, np.sqrt(np.asarray(response)))
    return voice / np.float32(rms(voice))


def cough(rng: Generator) -> Sound:
    """One to three coughs: a plosive of air, a noisy middle, and sometimes a voiced end."""
    parts = []
    size = rng.uniform(0.85, 1.2)
    for _ in range(rng.integers(1, 4)):
        length = samples(rng.uniform(0.18, 0.32))
        air = resonant(rng, length, (550 * size, 350, 1.0), (1500 * size, 600, 0.6), (2900 * size, 1500, 0.4))
        sound = air * burst(length, 0.006, rng.uniform(0.05, 0.09))
        tail = samples(rng.uniform(0.08, 0.16))
        pitch = np.linspace(rng.uniform(170, 320), rng.uniform(110, 170), tail) * (1 + 0.05 * rng.standard_normal(tail))
        voice = pulses(pitch, (600 * size, 200, 1.0), (1300 * size, 300, 0.4))
        sound[length - tail :] += voice * np.hanning(tail).astype(np.float32) * np.float32(rng.uniform(0.05, 0.3))
        parts += [sound, silence(rng.uniform(0.06, 0.25))]
    return np.concatenate(parts[:-1])


def throat(rng: Generator) -> Sound:
    """Clearing the throat: a low rattling voice in noise, once or twice."""
    parts = []
    for _ in range(rng.integers(1, 3)):
        length = samples(rng.uniform(0.25, 0.45))
        rattle = 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(22, 32) * np.arange(length) / INPUT_RATE)
        pitch = rng.uniform(85, 130) * (1 + 0.08 * rng.standard_normal(length))
        voice = pulses(pitch, (450, 200, 1.0), (1100, 300, 0.4), (2400, 500, 0.2))
        air = resonant(rng, length, (500, 400, 1.0), (1700, 900, 0.5))
        parts += [
            ((voice + 0.8 * air) * rattle * np.hanning(length)).astype(np.float32),
            silence(rng.uniform(0.05, 0.2)),
        ]
    return np.concatenate(parts[:-1])


def typing(rng: Generator) -> Sound:
    """Two seconds of keys: each a click going down, a weaker one coming up, and the thump of the desk."""
    out = silence(rng.uniform(1.6, 2.6))
    at = 0.0
    while (start := samples(at)) < len(out) - samples(0.13):
        colour = rng.uniform(0.8, 1.3)
        strength = rng.uniform(0.4, 1.0)
        for offset, loud in ((0.0, 1.0), (rng.uniform(0.05, 0.09), 0.45)):
            length = samples(0.03)
            click = resonant(rng, length, (2600 * colour, 1500, 1.0), (4800 * colour, 2000, 0.7), (220, 120, 0.5))
            begin = start + samples(offset)
            out[begin : begin + length] += click * burst(length, 0.001, 0.005) * np.float32(strength * loud)
        at += rng.gamma(4, 0.04) + (rng.uniform(0.2, 0.5) if rng.random() < 0.12 else 0)
    return out


def door(rng: Generator) -> Sound:
    """A door that falls shut: latch, a low slam with wooden resonances, a rattle."""
    length = samples(0.6)
    slam = resonant(rng, length, (90, 50, 1.0), (210, 90, 0.5), (480, 200, 0.15)) * burst(length, 0.003, 0.09)
    latch = resonant(rng, length, (1900, 900, 1.0), (3600, 1500, 0.5)) * burst(length, 0.001, 0.012)
    out = slam + np.roll(latch, samples(0.02)) * np.float32(0.4)
    out += np.roll(latch, samples(rng.uniform(0.1, 0.2))) * np.float32(0.15)
    return out.astype(np.float32)


def hum(rng: Generator) -> Sound:
    """ "Mm-hm": two nasal syllables, the second one higher, a breath between them."""
    base = rng.uniform(95, 220)
    first, second = samples(rng.uniform(0.14, 0.2)), samples(rng.uniform(0.18, 0.28))
    nasal = ((250, 80, 1.0), (1000, 200, 0.06), (2200, 400, 0.03))
    low = pulses(np.linspace(base, base * 0.94, first), *nasal) * np.hanning(first)
    breath = resonant(rng, samples(0.05), (700, 900, 1.0), (1800, 1500, 0.5)) * np.float32(0.06)
    high = pulses(np.linspace(base * 1.12, base * 1.3, second), *nasal) * np.hanning(second)
    return np.concatenate([low.astype(np.float32), breath, high.astype(np.float32)])


def music(rng: Generator, seconds: float) -> Sound:
    """A bed of chords and a bass, of RMS 1."""
    out = silence(seconds)
    beat = samples(rng.uniform(0.4, 0.6))
    root = rng.uniform(98, 147)
    chord = [0, 4, 7]
    for start in range(0, len(out) - 1, beat):
        if (start // beat) % 4 == 0:
            step = int(rng.choice([0, 3, 5, 7, -3]))
            chord = [step, step + 4, step + 7]
        length = min(beat * 2, len(out) - start)
        time = np.arange(length) / INPUT_RATE
        notes = [root / 2 * SEMITONE ** chord[0], *(root * 2 * SEMITONE**n for n in chord)]
        for note in notes:
            tone = sum(np.sin(2 * np.pi * note * k * time) / k**1.5 for k in range(1, 6))
            out[start : start + length] += np.asarray(tone, np.float32) * burst(length, 0.01, 0.5)
    return out / np.float32(rms(out))


def through_speaker(rng: Generator, sound: Sound, delay: float) -> Sound:
    """What a microphone hears of a loudspeaker in the same room after ``delay`` s: a narrow band and a few reflections.

    The result is as long as the sound; its gain is about 1.
    """
    frequency = np.linspace(0, INPUT_RATE / 2, 1025)
    band = 1 / np.sqrt(1 + (250 / np.maximum(frequency, 1)) ** 4) / np.sqrt(1 + (frequency / 4200) ** 6)
    direct = shaped(sound, band)
    out = np.zeros(len(sound), np.float32)
    taps = [(delay, 1.0)] + [(delay + rng.uniform(0.004, 0.12), rng.uniform(-0.35, 0.35)) for _ in range(12)]
    for late, gain in taps:
        shift = samples(late)
        out[shift:] += direct[: len(direct) - shift] * np.float32(gain)
    return out


def resampled(sound: Sound, factor: float) -> Sound:
    """The sound played ``factor`` times as fast: shorter and higher, formants and all."""
    if factor == 1:
        return sound
    if factor > 1:  # what would fold back is cut off first
        frequency = np.linspace(0, 1, 1025)
        sound = shaped(sound, (frequency < 1 / factor).astype(np.float64))
    positions = np.arange(0, len(sound) - 1, factor)
    out: Sound = np.interp(positions, np.arange(len(sound)), sound).astype(np.float32)
    return out
