"""Recordings as pictures: two data sets of spoken digits for recipes/joint/spoken_digits.yaml.

    python examples/spoken_digits.py fsdd_8khz.npz FOLDER

The file holds recordings end to end (`audio`, int16, 8 kHz), where each begins (`offsets`), its `digit`, `take` and `is_test`, as made from
the Free Spoken Digit Dataset. Even takes become FOLDER/digit.npz, whose labels are the digits; odd takes FOLDER/voice.npz, whose labels are
how long and how loud they are. A picture is a log-spectrogram of 16 bands and 16 moments.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch

RATE, LONGEST, WINDOW = 8000, 8192, 256


def picture(clip: np.ndarray) -> np.ndarray:
    """Loudness by frequency and time, from 0 to 1, `(1, 16, 16)`; longer recordings are cut after a second, shorter ones filled."""
    sound = torch.nn.functional.pad(torch.from_numpy(clip[:LONGEST]), (0, LONGEST - min(len(clip), LONGEST)))
    spectrum = torch.stft(sound, WINDOW, WINDOW, window=torch.hann_window(WINDOW), return_complex=True).abs()[:128, :32]
    bands = spectrum.reshape(16, 8, 16, 2).mean((1, 3))
    return ((bands.clamp_min(1e-4).log10() + 4) / 6).clamp(0, 1).numpy()[None]


def voice(clip: np.ndarray) -> list[float]:
    """Length in seconds, and the logarithm of the energy."""
    return [len(clip) / RATE, float(np.log10(np.sqrt((clip**2).mean()) + 1e-5))]


def main(source: str, folder: str) -> None:
    """Writes both data sets."""
    held = np.load(source)
    audio, offsets = held["audio"].astype(np.float32) / 2**15, held["offsets"]
    clips = [audio[start:stop] for start, stop in itertools.pairwise(offsets)]
    pictures, test = np.stack([picture(clip) for clip in clips]), held["is_test"].astype(bool)
    labels = {"digit": held["digit"].astype(np.int64), "voice": np.array([voice(clip) for clip in clips], dtype=np.float32)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, (name, values) in enumerate(labels.items()):
        own = held["take"] % 2 == number
        train, held_out = own & ~test, own & test
        parts = {"x_train": pictures[train], "y_train": values[train], "x_test": pictures[held_out], "y_test": values[held_out]}
        np.savez(Path(folder) / f"{name}.npz", **parts)
        print(f"{folder}/{name}.npz: {train.sum()} recordings to train, {held_out.sum()} to test")


if __name__ == "__main__":
    main(*sys.argv[1:])
