"""The film's sound: a brook of filtered noise, and a plucked note whenever a light reaches a node."""

import numpy as np
from numpy.typing import NDArray

from node.stream.film import story

RATE = 44_100
Wave = NDArray[np.float64]
# One note per node, a pentatonic climb from Alice to Eric; the preimage walks down it an octave higher.
NOTES_HZ = (293.66, 369.99, 440.00, 493.88, 659.26)
CHORD_HZ = (146.83, 220.00, 293.66, 369.99, 440.00, 659.26)


def sound(seed: int = 7) -> NDArray[np.int16]:
    """The whole track, two channels."""
    random = np.random.default_rng(seed)
    track = np.stack([_water(random), _water(random)], axis=1) * 0.10
    for index, start in enumerate(story.STARTS):
        for node, hertz in enumerate(NOTES_HZ):
            pan = 0.2 + 0.6 * node / story.HOPS
            _add(track, story.reaches(start, node), _pluck(hertz, 1.3), 0.17, pan)
            if index % 2 == 0:
                _add(track, story.returns(start, node), _pluck(2 * hertz, 0.7), 0.045, pan)
    for step, hertz in enumerate(CHORD_HZ):
        _add(track, story.TITLE_AT + 0.11 * step, _pluck(hertz, 3.5), 0.20, 0.3 + 0.08 * step)
    track += 0.28 * _echo(track)
    times = np.arange(len(track)) / RATE
    curtain = np.interp(times, [0, 0.8, story.SECONDS - 1.5, story.SECONDS], [0, 1, 1, 0])
    loudest = np.abs(track).max()
    return (track * curtain[:, None] / loudest * 0.8 * 32767).astype(np.int16)


def _water(random: np.random.Generator) -> Wave:
    """Noise between 250 and 4000 Hz, falling with frequency, its loudness wandering."""
    length = int(story.SECONDS * RATE)
    spectrum = np.fft.rfft(random.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    shape = (hertz > 60) * (1 / (1 + (250 / np.maximum(hertz, 1)) ** 2)) / (1 + (hertz / 900) ** 1.6)
    noise = np.fft.irfft(spectrum * shape, length)
    knots = random.uniform(0.55, 1.0, int(story.SECONDS * 5) + 2)
    loudness = np.interp(np.arange(length) / RATE * 5, np.arange(len(knots)), knots)
    return np.asarray(noise / np.abs(noise).max() * 3 * loudness)


def _pluck(hertz: float, seconds: float) -> Wave:
    """A music box's note: a few partials, the higher the shorter."""
    times = np.arange(int(seconds * RATE)) / RATE
    partials = ((1, 1.0, 4.2), (2, 0.30, 7.0), (3.01, 0.13, 11.0), (5.4, 0.05, 22.0))
    note = sum(
        share * np.exp(-decay * times / (0.4 + 0.6 * seconds)) * np.sin(2 * np.pi * hertz * times * multiple)
        for multiple, share, decay in partials
    )
    return np.asarray(note * np.minimum(1, times * 250))


def _add(track: Wave, at: float, note: Wave, loudness: float, pan: float) -> None:
    start = int(at * RATE)
    note = note[: max(0, len(track) - start)]
    track[start : start + len(note), 0] += note * loudness * np.cos(pan * np.pi / 2)
    track[start : start + len(note), 1] += note * loudness * np.sin(pan * np.pi / 2)


def _echo(track: Wave) -> Wave:
    """A soft room: a few late, crossed repetitions."""
    wet = np.zeros_like(track)
    for delay_seconds, share in ((0.113, 0.5), (0.197, 0.4), (0.311, 0.3), (0.467, 0.2)):
        shift = int(delay_seconds * RATE)
        wet[shift:] += share * track[:-shift, ::-1]
    return wet
