"""Pictures, recordings and videos of a data set as a model's processor reads them."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from mmkd_jax import data
from mmkd_jax.data.filter_bank import FilterBank
from mmkd_jax.data.images import Pictures
from mmkd_jax.data.sounds import Waves
from mmkd_jax.data.videos import Videos
from mmkd_jax.data.voice_windows import Windows
from mmkd_jax.data.whisper_spectrogram import LogMel
from mmkd_jax.errors import UserError
from mmkd_jax.pretrained.clip import Both

RATE = 16_000
DRAW = np.random.default_rng(0)
PHOTOS = [DRAW.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(6, 9), (8, 5), (4, 4), (7, 7)]]
SAID = [(DRAW.normal(size=n) * 3_000).astype(np.int16) for n in (900, 400, 2_000, 650)]
SMALL = Pictures(size=(4, 6))
WAVES = Waves(least=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for i, (photo, said) in enumerate(zip(PHOTOS, SAID, strict=True)):
        Image.fromarray(photo).save(folder / f"{i}.png")
        scipy.io.wavfile.write(folder / f"{i}.wav", RATE, said)
    return folder


def paths(folder, ending, rows=(0, 1, 2, 3)):
    return np.array([str(folder / f"{i}.{ending}") for i in rows])


def rows(column, name="raw", **more):
    return data.from_columns({name: column, "label": np.arange(len(column), dtype=np.int32), **more}, "made up")


def same(found, expected):
    assert found.keys() == expected.keys()
    for k, x in expected.items():
        np.testing.assert_array_equal(found[k], x, err_msg=k, strict=True)


CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "pictures": (SMALL, "png", {}),
    "cropped pictures": (Pictures(size=5, crop=(4, 5), modality="photo"), "png", {}),
    "waves": (WAVES, "wav", {"length": 800}),
    "waves, resampled": (Waves(8_000, modality="sound"), "wav", {"length": 900, "resample": True, "channels": "mean"}),
    "log mel": (LogMel(8, 20), "wav", {}),
    "filter bank": (FilterBank(8, 20), "wav", {}),
    "windows": (Windows(4, 6), "wav", {"length": 1_500}),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_of_paths_are_what_the_processor_makes_of_the_files(name, folder):
    processor, ending, options = CASES[name]
    column = paths(folder, ending)
    found = data.process(rows(column), processor, "raw", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the processor's, of truncated recordings
        expected = processor(column.tolist(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the length was asked for
        columns = found.columns
    same({k: columns[k] for k in expected}, expected)
    assert columns.keys() == found.spec.keys() == {*expected, "label", "example_id"}
    for k, s in found.spec.items():
        assert (columns[k].shape[1:], columns[k].dtype) == (s.shape, s.dtype), k
    encoded = data.process(rows(np.char.encode(column)), processor, "raw", **options)
    some = np.array([2, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(encoded.take(some), {k: x[some] for k, x in columns.items()})


def test_arrays_are_read_as_files_are(folder):
    photos = DRAW.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
    same(data.process(rows(photos, "image"), SMALL).columns, rows(SMALL(photos)["image"], "image").columns)
    waves = np.stack([x[:400] for x in SAID])
    found = data.process(rows(waves, "audio"), WAVES, rate=RATE, length=500).columns
    assert found["audio"].shape == (4, 500) and found["audio.mask"].sum(1).tolist() == [400] * 4
    same({k: found[k] for k in ("audio", "audio.mask")}, WAVES(waves, RATE, length=500))
    clips = DRAW.integers(0, 256, (3, 5, 9, 8, 3), dtype=np.uint8)
    same({"video": data.process(rows(clips), Videos(SMALL, 2), "raw").columns["video"]}, Videos(SMALL, 2)(clips))
    frames = np.stack([paths(folder, "png", (0, 1)), paths(folder, "png", (2, 3))])
    found = data.process(rows(frames), Videos(SMALL, 4), "raw", repeat=True).columns["video"]
    same({"video": found}, Videos(SMALL, 4)([[PHOTOS[0], PHOTOS[1]], [PHOTOS[2], PHOTOS[3]]], repeat=True))


def test_files_are_read_when_their_rows_are(folder, tmp_path):
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = data.process(rows(paths(tmp_path, "png", (0, 1, 7))), SMALL, "raw")
    assert found.take(np.array([1, 0]))["image"].shape == (2, 4, 6, 3)
    with pytest.raises(UserError, match=r"image 2: there is no file .*7\.png"):
        found.take(np.array([0, 2]))


def test_both_readers_give_the_same_rows(folder):
    found = data.process(rows(paths(folder, "wav")), WAVES, "raw", length=800)
    readers = [data.InMemory(found, 2), data.GrainLoader(found, 2, threads=2)]
    for one, two in zip(*([next(r.batches(seed=1)) for _ in range(3)] for r in readers), strict=True):
        assert one.keys() == two.keys() == readers[0].spec.keys()
        for k in one:
            np.testing.assert_array_equal(one[k], two[k])


def test_the_fingerprint_names_settings_options_and_column(folder):
    def of(processor=WAVES, name="raw", column=None, **options: Any):
        made = rows(paths(folder, "wav") if column is None else column, name)
        options.setdefault("length", 800)
        return data.process(made, processor, name, **options).fingerprint

    known = of()
    assert of() == known and of(dataclasses.replace(WAVES, files={"a.json": b"{}"})) == known
    others = [
        of(Waves(least=99)),
        of(Waves(8_000, least=100), resample=True),
        of(Waves(normalize=False, least=100)),
        of(Waves(least=100, modality="sound")),
        of(length=801),
        of(channels="mean"),
        of(cut=True),
        of(name="path"),
        of(column=paths(folder, "wav", (1, 0, 2, 3))),
    ]
    assert all(x != known for x in others) and len({repr(x) for x in others}) == len(others)
    photos = rows(DRAW.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8))
    pictures = [Pictures(size=(4, 6)), Pictures(size=(4, 7)), Pictures(size=(4, 6), resample=3), Pictures(4, (4, 6))]
    assert len({repr(data.process(photos, p, "raw").fingerprint) for p in pictures}) == len(pictures)
    once = data.process(photos, SMALL, "raw", remove=False)
    twice = data.process(once, dataclasses.replace(SMALL, modality="small"), "raw")
    assert len(once.fingerprint["processed"]) == 1 and len(twice.fingerprint["processed"]) == 2


def test_rows_that_lack_the_modality_are_not_read(folder):
    absent = paths(folder, "wav")
    absent[[0, 3]] = ""
    there = {"present.audio": np.array([False, True, True, False])}
    found = data.process(rows(absent, **there), WAVES, "raw", length=800)
    expected = WAVES(absent[1:3].tolist(), length=800, warn=False)
    for k, x in expected.items():
        np.testing.assert_array_equal(found.columns[k][1:3], x)
        assert not found.columns[k][[0, 3]].any()
    assert not found.take(np.array([3]))["audio.mask"].any()
    with pytest.raises(UserError, match="audio 0"):
        _ = data.process(rows(absent), WAVES, "raw", length=800).columns


@pytest.mark.parametrize(
    ("processor", "options", "said"),
    [
        (WAVES, {}, "audio: length=None; expected a number of samples at 16000 Hz, at least 100"),
        (WAVES, {"length": 99}, "audio: length=99; expected a number of samples"),
        (WAVES, {"length": 800.0}, r"audio: length=800\.0; expected a number of samples"),
        (Windows(), {}, "audio: length=None; expected a number of samples at 16000 Hz"),
        (Pictures(size=4), {}, "image: size=4 without crop; rows of a data set have one shape: set size="),
        (Pictures(size=None), {}, "image: size=None without crop"),
        (Videos(SMALL), {}, r"video: frames=None; rows of a data set have one shape: Videos\(…, frames=8\)"),
        (Videos(Pictures(size=4), 2), {}, "image: size=4 without crop"),
        (SMALL, {"rate": RATE}, "Pictures has no option rate; it has: .none."),
        (WAVES, {"lenght": 3}, "Waves has no option lenght; it has: channels, cut, length, rate, resample"),
        (WAVES, {"warn": True, "length": 800}, "Waves has no option warn"),
        (Both(lambda: {}, SMALL, {}), {}, "processor is a Both: pass its .image, a Pictures, and its .text to"),
        (data.train_tokenizer(["a"], 9, 4), {}, "processor is a Tokenizer: .*texts are read by data.tokenize"),
    ],
)
def test_requests_without_one_shape_are_named_before_anything_is_read(processor, options, said):
    with pytest.raises(UserError, match=said):
        data.process(rows(np.array(["missing"])), processor, "raw", **options)


def test_columns_that_clash_or_are_missing_are_named():
    photos = rows(PHOTOS[2][None], image=PHOTOS[2][None])
    with pytest.raises(UserError, match="no column 'photo' to process; available: .*image, .*raw"):
        data.process(photos, SMALL, "photo")
    with pytest.raises(
        UserError, match=r"two columns are named 'image': rename .*: pretrained.with_inputs\(.*, image='…'\)"
    ):
        data.process(photos, SMALL, "raw")
    with pytest.raises(UserError, match="two columns are named 'image'"):
        data.process(photos, SMALL, remove=False)
    assert data.process(photos, SMALL).spec["image"].shape == (4, 6, 3)
    with pytest.raises(UserError, match=r"column 'raw' contains text.*paths with data\.process"):
        _ = data.InMemory(rows(np.array(["a.png"])), 1).spec


@pytest.mark.parametrize("name", ["waves", "log mel", "filter bank", "windows"])
def test_errors_name_the_row_and_the_file(name, folder, tmp_path):
    processor, _, options = CASES[name]
    scipy.io.wavfile.write(tmp_path / "empty.wav", RATE, np.zeros(0, np.int16))
    scipy.io.wavfile.write(tmp_path / "long.wav", RATE, np.ones(4_000, np.int16))
    scipy.io.wavfile.write(tmp_path / "slow.wav", 8_000, np.ones(400, np.int16))
    scipy.io.wavfile.write(tmp_path / "short.wav", RATE, np.ones(50, np.int16))
    (tmp_path / "no.wav").write_bytes(b"<html>")
    names = ["1.wav", "empty.wav", "long.wav", "slow.wav", "no.wav", "short.wav"]
    column = np.array([str((folder if n == "1.wav" else tmp_path) / n) for n in names])
    found = data.process(rows(column), processor, "raw", **options | {"cut": False})
    short = [(5, r"audio 5, .*short\.wav: 50 samples are too few")] if name in ("waves", "filter bank") else []
    for row, said in [
        *short,
        (1, r"audio 1, .*empty\.wav has no samples"),
        (2, r"1 of 2 recordings are longer than .* s, first in row 2, .*long\.wav: truncate them \(cut=True\)"),
        (3, r"audio 3, .*slow\.wav: rate is 8000 Hz"),
        (4, r"audio 4, .*no\.wav"),
    ]:
        with pytest.raises(UserError, match=said):
            found.take(np.array([0, row]))


def test_recordings_too_long_for_the_model_are_refused_unless_cutting_is_asked_for():
    long = rows(np.ones((2, 4_000), np.int16))
    with pytest.raises(UserError, match=r"2 of 2 recordings are longer than 0\.2 s, first in row 0: truncate them"):
        _ = data.process(long, LogMel(8, 20), "raw", rate=RATE).columns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.process(long, LogMel(8, 20), "raw", rate=RATE, cut=True).columns["audio"].shape == (2, 20, 8)


def test_errors_of_pictures_and_videos_name_the_row_and_the_file(folder, tmp_path):
    (tmp_path / "7.png").write_bytes((folder / "0.png").read_bytes()[:60])
    pictures = data.process(rows(np.array([*paths(folder, "png"), str(tmp_path / "7.png")])), SMALL, "raw")
    with pytest.raises(UserError, match=r"image 4, .*7\.png"):
        pictures.take(np.array([1, 4]))
    clips = data.process(rows(np.array([[str(folder / "0.png")], [str(tmp_path / "7.png")]])), Videos(SMALL, 1), "raw")
    with pytest.raises(UserError, match=r"video 1, frame 0, .*7\.png"):
        clips.take(np.array([1]))
