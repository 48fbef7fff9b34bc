"""Preprocessing steps: row by row, of the declared shapes, and the same bits after they are saved."""

import dataclasses
import importlib.metadata
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from mmkd_jax import data
from mmkd_jax.child_process import Limits
from mmkd_jax.data import Pictures, Tokenizer, Videos, Waves, spectrogram
from mmkd_jax.data.datasets import av_digits, emoji
from mmkd_jax.data.filter_bank import FilterBank
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.other_tokenizers import PythonTokenizer
from mmkd_jax.data.preprocess import (
    CenterCrop,
    Characters,
    LogMel,
    Normalize,
    PadOrTrim,
    Preprocessing,
    Processed,
    ReadArray,
    ReadImage,
    ReadVideo,
    Resample,
    Resize,
    Tokenize,
    TokenizeWords,
    saved,
)
from mmkd_jax.data.preprocess.preprocessing import STEPS
from mmkd_jax.data.preprocess.processed import PROCESSORS
from mmkd_jax.data.voice_windows import Windows
from mmkd_jax.data.whisper_spectrogram import LogMel as WhisperLogMel
from mmkd_jax.errors import UserError
from tests.readers import pieces

TEXTS = ["A good day!", "", "two good days and a bad one, naïve", "day"]
DRAW = np.random.default_rng(0)
RECORDINGS = [DRAW.uniform(-0.5, 0.5, n).astype(np.float32) for n in (900, 1_000, 2_100)]
PHOTOS = [DRAW.integers(0, 256, shape).astype(np.uint8) for shape in ((9, 12, 3), (7, 5, 3), (6, 6))]
CLIPS = [DRAW.integers(0, 256, (t, 6, 8, 3)).astype(np.uint8) for t in (3, 5)]
WORDS = data.train_tokenizer(TEXTS * 2, 20, 9, "words")
SMALL = Pictures(size=(4, 4), files={"preprocessor_config.json": b'{"size": 4}'})
LEVIT = OtherPictures(
    "LevitImageProcessorPil",
    '{"crop_size": {"height": 6, "width": 5}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": '
    '{"shortest_edge": 7}}',
    importlib.metadata.version("transformers"),
    (6, 5),
    8,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
)
AUDIO = {"rate": 16_000}

CHAINS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "log mel": ((Resample(8_000, source_rate=8_000), PadOrTrim(1_000), av_digits.LOG_MEL), RECORDINGS),
    "log mel in decibels": ((Resample(4_000, source_rate=8_000), PadOrTrim(800), LogMel(4_000, 8, 64, 50)), RECORDINGS),
    "padded": (
        (Resample(8_000, source_rate=4_000), Normalize((0.1,), (2.0,)), PadOrTrim(1_200, mask=True)),
        RECORDINGS,
    ),
    "photos": ((ReadImage(), Resize(6, "bicubic"), CenterCrop((5, 8)), Normalize((0.4, 0.5, 0.6), (0.2,) * 3)), PHOTOS),
    "gray photos": ((ReadImage(1, on_white=True), Resize((3, 4), "lanczos")), PHOTOS),
    "videos": ((ReadVideo(4, (3, 3), repeat=True), Normalize((0.5,), (0.5,))), CLIPS),
    "words": ((Tokenize(WORDS, 5),), TEXTS),
    "places of words": ((TokenizeWords(WORDS, 9, 4),), TEXTS),
    "characters": ((Characters(6),), TEXTS),
    "sizes": ((ReadArray((2,)), Normalize((1.0, 2.0), (3.0, 4.0))), [[1, 2], (3.5, 4)]),
    "pictures": ((Processed(SMALL),), PHOTOS),
    "gray pictures": (
        (Processed(Pictures(size=(4, 4), mean=(0.5,), std=(0.5,))),),
        [photo if photo.ndim == 2 else np.repeat(photo[..., :1], 3, -1) for photo in PHOTOS],
    ),
    "pictures of images": ((ReadImage(), Resize((8, 8)), Processed(dataclasses.replace(SMALL, crop=(3, 3)))), PHOTOS),
    "pictures by transformers": ((Processed(LEVIT),), PHOTOS),
    "video processor": ((Processed(Videos(SMALL, 2), {"repeat": True}),), CLIPS),
    "waves": ((Processed(Waves(16_000), {**AUDIO, "length": 1_000, "cut": True}),), RECORDINGS),
    "filter bank": ((Processed(FilterBank(8, 10), {**AUDIO, "cut": True}),), RECORDINGS),
    "Whisper": ((Processed(WhisperLogMel(8, 20), AUDIO),), RECORDINGS),
    "windows": ((Processed(Windows(4, 6), {**AUDIO, "length": 1_500}),), RECORDINGS),
}


def same(found, expected):
    assert found.keys() == expected.keys()
    for k, x in expected.items():
        np.testing.assert_array_equal(found[k], x, err_msg=k, strict=True)


def test_every_step_and_processor_has_a_chain():
    steps = [s for chain, _ in CHAINS.values() for s in chain]
    assert {type(s) for s in steps} == set(STEPS)
    assert {type(s.processor) for s in steps if isinstance(s, Processed)} == set(PROCESSORS)


@pytest.mark.parametrize("name", CHAINS)
def test_rows_do_not_depend_on_each_other_and_have_the_declared_shapes(name):
    steps, values = CHAINS[name]
    chain = Preprocessing("raw", steps)
    together = chain(values)
    spec = chain.row_spec()
    assert {k: (x.shape[1:], x.dtype) for k, x in together.items()} == {k: (x.shape, x.dtype) for k, x in spec.items()}
    assert chain.columns == tuple(spec)
    for i, value in enumerate(values):
        same(chain([value], rows=[i]), {k: x[i : i + 1] for k, x in together.items()})
    same(chain([]), {k: x[:0] for k, x in together.items()})


def test_the_same_bits_after_saving(tmp_path):
    chains = [Preprocessing("raw", steps) for steps, _ in CHAINS.values()]
    saved.write(tmp_path, chains)
    back = saved.read(tmp_path)
    assert [x.row_spec() for x in back] == [x.row_spec() for x in chains]
    for name, before, after in zip(CHAINS, chains, back, strict=True):
        same(after(CHAINS[name][1]), before(CHAINS[name][1]))
        assert name in ("words", "places of words") or after == before
    saved.write(tmp_path / "again", back)
    files = sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert files == [pathlib.Path(p) for p in (
        "preprocess.json", "processor-1/preprocessor_config.json", "tokenizer-0/tokenizer.json",
        "tokenizer-0/tokenizer_config.json")]  # fmt: skip
    assert all((tmp_path / "again" / p).read_bytes() == (tmp_path / p).read_bytes() for p in files)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "pipeline"}, "image processor 'pipeline' cannot be used with .* does not have it"),
        ({"kind": "LevitImageProcessorPil.from_dict"}, "'LevitImageProcessorPil.from_dict' is no name of a class"),
        ({"settings": '{"auto_map": {}}'}, "auto_map of image processor 'LevitImageProcessorPil' names code"),
        ({"settings": "[]"}, r"settings of image processor .* are \[\]; expected an object"),
        ({"settings": "{"}, "cannot be read .JSONDecodeError"),
        ({"side": 9_999}, "side is 9999 with transformers .*; here, with .*, it is 8: install the former"),
    ],
)
def test_a_processor_of_transformers_that_a_stranger_names(change, said, tmp_path):
    """Nothing of transformers but an image processor is created, first in a child process."""
    made = dataclasses.replace(LEVIT)
    chain = Preprocessing("photo", (Processed(made),))
    for name, x in change.items():
        object.__setattr__(made, name, x)
    saved.write(tmp_path, [chain])
    with pytest.raises(UserError, match=said) as error:
        saved.read(tmp_path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path))


def test_a_processor_of_another_version_of_transformers(tmp_path):
    saved.write(tmp_path, [Preprocessing("photo", (Processed(dataclasses.replace(LEVIT, version="4.0")),))])
    with pytest.warns(UserWarning, match="'LevitImageProcessorPil' was written with transformers 4.0, and is run by"):
        saved.read(tmp_path)
    other = dataclasses.replace(LEVIT, kind="AutoImageProcessor")
    with pytest.raises(UserError, match="'AutoImageProcessor' is no image processor of transformers"):
        other.processor  # noqa: B018


VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\ngood\nday\n##s\n!\n"


def word_piece(folder, **settings):
    (folder / "vocab.txt").write_text(VOCABULARY)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"do_lower_case": True}, {}),
        ({"do_lower_case": False, "truncation_side": "left"}, {"modality": "notes"}),
        ({"model_max_length": 7, "pad_token": "[UNK]"}, {"whole": True, "types": True}),
        ({"do_lower_case": False, "split_special_tokens": True}, {"lowercase": True, "rows": 9}),
    ],
)
def test_a_tokenizer_is_built_again_from_its_files(settings, arguments, tmp_path):
    word_piece(tmp_path, **settings)
    before = Tokenizer(tmp_path, 8, 0, **arguments)
    saved.write(tmp_path / "saved", [Preprocessing("text", (Tokenize(before, 6),))])
    (chain,) = saved.read(tmp_path / "saved")
    step: Any = chain.steps[0]
    after = step.tokenizer
    texts = [*TEXTS, "good good good GOOD good good days", "[SEP] a"]
    assert after.fingerprint == before.fingerprint and after.length == before.length
    for pad in (True, False):
        same(after(texts, pad=pad, warn=False), before(texts, pad=pad, warn=False))
    same(after(texts, pairs=texts, warn=False), before(texts, pairs=texts, warn=False))
    same(chain(texts), before(texts, length=6, pad=True, warn=False))


@pytest.mark.full
@pytest.mark.parametrize("name", ["SigLIP", "XLM-R", "RoBERTa with a blank before", "LLaMA"])
def test_a_tokenizer_that_only_transformers_reads(name, tmp_path):
    pieces.write(tmp_path, pieces.FOLDERS[name])
    limits = Limits(seconds=200.0)
    before = Tokenizer(tmp_path, 8, 0, limits=limits)
    assert isinstance(before.tokenizer, PythonTokenizer) == pieces.FOLDERS[name].in_python
    saved.write(tmp_path / "saved", [Preprocessing("text", (Tokenize(before, 6),))])
    (chain,) = saved.read(tmp_path / "saved", limits)
    same(chain(pieces.TEXTS), before(pieces.TEXTS, length=6, pad=True, warn=False))


def log_mel(wave):
    """The spectrogram that AV-digits has had since its first version."""
    windows = spectrogram.frames(np.pad(wave, (0, 256)), 256, 250)[:32]
    energy = spectrogram.power(windows * np.hanning(256)) / 64**2
    level = 10 * np.log10(energy @ spectrogram.mel_filters(256, 32, 8_000, low=60.0) + 1e-12)
    return np.round((np.clip(level, -80, 0) + 80) / 2).astype(np.uint8)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.3, 5.0])
def test_log_mel_is_that_of_av_digits(scale):
    wave = scale * (DRAW.standard_normal(8_000) + np.sin(np.arange(8_000)))
    np.testing.assert_array_equal(av_digits.LOG_MEL([wave], ["audio 0"])[0], log_mel(wave), strict=True)


def test_what_av_digits_declares_gives_its_columns(tmp_path):
    rows = data.load("av_digits", "validation")
    assert rows.preprocess == av_digits.PREPROCESS
    by_input = {x.input: x for x in rows.preprocess}
    path = tmp_path / "seven.wav"
    scipy.io.wavfile.write(path, 16_000, (DRAW.uniform(-0.5, 0.5, 12_000) * 2**15).astype(np.int16))
    made = by_input["audio"]([path]) | by_input["text"](["seven"])
    picture = rows.take(np.arange(2))["image"]
    same(by_input["image"](list(picture)), {"image": picture})
    for k, x in made.items():
        assert (x.shape[1:], x.dtype) == (rows.spec[k].shape, rows.spec[k].dtype), k
    assert made["audio"][0, :24].max() > 0 and made["audio"][0, 25:].max() == 0  # padded with silence


def test_images_on_white_are_those_of_the_emoji(tmp_path):
    color, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    Image.fromarray(np.stack([color, color[::-1], color.T, alpha], -1)).save(tmp_path / "each.png")
    raw = Preprocessing("image", emoji.PREPROCESS[0].steps[:1])([tmp_path / "each.png"])["image"][0]
    np.testing.assert_array_equal(raw, emoji.on_white((tmp_path / "each.png").read_bytes()))
    small = Image.open(tmp_path / "each.png").resize((72, 72))
    small.save(tmp_path / "small.png")
    (whole,) = emoji.PREPROCESS[0]([tmp_path / "small.png"])["image"]
    np.testing.assert_array_equal(whole, emoji.on_white((tmp_path / "small.png").read_bytes()))


def test_videos_of_files_of_folders_and_of_arrays_are_equal(tmp_path):
    frames = [Image.fromarray(np.full((6, 8, 3), 40 * i, np.uint8)) for i in range(5)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], lossless=True)
    (tmp_path / "clip").mkdir()
    for i, x in enumerate(frames):
        x.save(tmp_path / "clip" / f"{i}.png")
    read = Preprocessing("video", (ReadVideo(2, (3, 4)),))
    expected = read([np.stack([np.asarray(x) for x in frames])])
    assert expected["video"][0, :, 0, 0, 0].tolist() == [0, 80]
    for name in ("clip.gif", "clip.webp", "clip"):
        same(read([tmp_path / name]), expected)
    for name, words in (("clip.gif", "has 5 frames; expected 9"), ("clip", "5 frames; expected 9")):
        with pytest.raises(UserError, match=words):
            Preprocessing("video", (ReadVideo(9, (3, 4)),))([str(tmp_path / name)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gif").write_text("no video")
    (tmp_path / "cut.gif").write_bytes((tmp_path / "clip.gif").read_bytes()[:60])
    for name in ("empty", "text.gif", "cut.gif", "missing.gif"):
        with pytest.raises(UserError, match=rf"video 4.*{name}"):
            read([tmp_path / name], rows=[4])


def test_data_sets_take_their_steps_along(tmp_path):
    rows = data.from_columns({"photo": np.stack([PHOTOS[0]] * 3), "text": np.array(TEXTS[:3])}, "three")
    rows = data.tokenize(data.process(rows, SMALL, "photo"), {WORDS: 5})
    assert [(x.input, x.columns) for x in rows.preprocess] == [
        ("photo", ("image",)),
        ("text", ("words.ids", "words.mask")),
    ]
    for x, raw in zip(rows.preprocess, ([PHOTOS[0]] * 3, TEXTS[:3]), strict=True):
        same(x(raw), {k: rows.columns[k] for k in x.columns})
    some = rows.with_columns(some=np.array([True, False, True])).where("some")
    assert some.preprocess == rows.preprocess and data.InMemory(some, 2).dataset.preprocess == rows.preprocess
    other = rows.with_columns(image=np.zeros((3, 2, 2, 3), np.float32))
    assert [x.input for x in other.preprocess] == ["text"]  # no longer what the steps give


def test_processing_a_column_that_has_steps_continues_them():
    rows = data.from_columns({"photo": np.stack([PHOTOS[0]] * 3)}, "three")
    first = Preprocessing("file", (ReadImage(), Resize((8, 8))))
    declared = dataclasses.replace(rows, preprocess=(dataclasses.replace(first, input="photo"),))
    both = data.process(declared, SMALL, "photo", remove=False)
    assert [[type(s).__name__ for s in x.steps] for x in both.preprocess] == [
        ["ReadImage", "Resize"],
        ["ReadImage", "Resize", "Processed"],
    ]
    assert len(data.process(declared, SMALL, "photo").preprocess) == 1

    @dataclasses.dataclass(frozen=True)
    class Mine(Pictures):
        """A processor that cannot be saved."""

    assert data.process(rows, Mine(size=(2, 2)), "photo").preprocess == ()
