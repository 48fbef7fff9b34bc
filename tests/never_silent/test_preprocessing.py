"""Raw inputs and the steps that read them: nothing is read as something else, no step is lost or exchanged."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import scipy.io.wavfile

from mmkd_jax import data, files
from mmkd_jax.data import preprocess as p
from mmkd_jax.data.datasets import av_digits
from mmkd_jax.data.preprocess import saved
from mmkd_jax.errors import UserError
from tests.never_silent.setting import teacher_and_student

WORDS = data.train_tokenizer(["a good day", "a bad day"], 9, 8, "words")
AUDIO = p.Preprocessing("audio", (p.Resample(8_000, strict=True), p.PadOrTrim(8_000), av_digits.LOG_MEL))


def one_line(message):
    assert "\n" not in message and len(message) < 500, message
    return message


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for name, rate in (("good", 8_000), ("fast", 16_000)):
        scipy.io.wavfile.write(folder / f"{name}.wav", rate, np.zeros(9_000, np.int16))
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:5_000])
    (folder / "song.mp3").write_bytes(b"ID3\x04" + bytes(100))
    return folder


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "fast.wav",
            "audio 5, .*fast.wav: rate is 16000 Hz; the model expects 8000 Hz: resample it, with strict=False",
        ),
        ("cut.wav", "audio 5, .*cut.wav is cut off"),
        ("song.mp3", "audio 5, .*song.mp3 .*expected a .wav file"),
        ("missing.wav", "audio 5: there is no file .*missing.wav"),
        (np.zeros(9_000, np.float32), "audio 5: ndarray without a sample rate"),
        (3, "audio 5: int without a sample rate"),
    ],
)
@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_recordings_that_cannot_be_read(value, words, kind, recordings):
    """A raw recording at another sample rate with `strict=True`, cut off, in another format, missing, or an array of
    unknown rate → refused by row and path.
    """
    raw = kind(recordings / value) if isinstance(value, str) else value
    with pytest.raises(UserError, match=words) as error:
        AUDIO([kind(recordings / "good.wav"), raw], rows=[4, 5])
    one_line(str(error.value))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((28, 29), np.uint8), "image 7: 28 × 29 pixels; expected 28 × 28: scale it"),
        (np.zeros((28, 28), np.float32), "image 7: float32 of shape"),
        (b"\x89PNG", "image 7 is PNG, but damaged or cut off"),
        ("text.png", "image 7, .*text.png .*expected an image"),
        ("missing.png", "image 7: there is no file"),
    ],
)
def test_images_that_cannot_be_read(value, words, tmp_path):
    """A raw image of another size, of floats, or a file that is no image → refused by row and path."""
    (tmp_path / "text.png").write_text("no image")
    raw = tmp_path / value if isinstance(value, str) else value
    with pytest.raises(UserError, match=words) as error:
        p.Preprocessing("image", (p.ReadImage(1, (28, 28)),))([raw], rows=[7])
    one_line(str(error.value))


@pytest.mark.parametrize(
    ("steps", "value", "words"),
    [
        ((p.Tokenize(WORDS, 4),), "a\0", "text 2 has NUL characters"),
        ((p.Characters(4),), b"\xff", r"text 2 is b'\\xff'; expected a string, or UTF-8"),
        ((p.ReadArray((2,)),), [1, 2, 3], r"text 2: shape \[3\]; expected numbers of shape \[2\]"),
        ((p.ReadArray((), "uint8"),), 256, "text 2: .*256.* does not fit in uint8"),
        ((p.ReadArray((), "int32"),), 0.5, "text 2: .*0.5.* does not fit in int32"),
        ((p.ReadArray(),), 1e60, "text 2: .* does not fit in float32"),
        ((p.ReadArray(),), "7", "text 2: '7'; expected numbers"),
        ((p.ReadImage(), p.CenterCrop((2, 2)), p.Normalize((0.5,), (0.5,))), None, "text 2: NoneType; expected a path"),
        (
            (p.ReadImage(),),
            np.zeros((3, 4), np.uint8),
            r"text 2: shape .3, 4, 3., but text 1 has .2, 2, 3.: add a step",
        ),
        ((p.ReadVideo(3, (2, 2)),), np.zeros((2, 4, 4, 3), np.uint8), "text 2: 2 frames; expected 3"),
    ],
)
def test_values_that_a_step_cannot_read(steps, value, words):
    """A raw value of another type, shape or range, or images of different sizes → refused by row."""
    first = {"Tokenize": "a", "Characters": "a", "ReadArray": np.zeros(getattr(steps[0], "shape", ()), np.uint8)}
    first |= {"ReadImage": np.zeros((2, 2), np.uint8), "ReadVideo": np.zeros((3, 4, 4, 3), np.uint8)}
    with pytest.raises(UserError, match=words) as error:
        p.Preprocessing("text", steps)([first[type(steps[0]).__name__], value], rows=[1, 2])
    one_line(str(error.value))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "steps is .*expected a tuple of steps"),
        ((p.Resize(4),), "step 1, Resize: it reads an image, not a raw value: put ReadImage before it"),
        (
            (p.ReadImage(), p.ReadImage()),
            "step 2, ReadImage: it reads a raw value, not an image: make it the first step",
        ),
        (
            (p.ReadImage(), av_digits.LOG_MEL),
            "step 2, LogMel: it reads a waveform, not an image: put Resample before it",
        ),
        ((p.Resample(16_000), av_digits.LOG_MEL), "LogMel: rate is 8000 Hz, but the waveforms have 16000 Hz"),
        ((p.Resample(8_000), p.PadOrTrim(200), av_digits.LOG_MEL), "waveforms of 200 samples have no frame"),
        ((p.Tokenize(WORDS, 4), p.PadOrTrim(3)), "step 2, PadOrTrim: Tokenize gives columns, so that it must be last"),
        (
            (p.Resample(8_000), p.Processed(data.Waves(16_000), {"length": 9})),
            "rate is None, but the waveforms have 8000",
        ),
        (
            (p.ReadImage(), p.Normalize((0.5, 0.5), (1.0, 1.0))),
            r"mean has 2 values, but rows have shape .None, None, 3.",
        ),
        (
            (p.Resample(8_000), p.PadOrTrim(8_000), av_digits.LOG_MEL, p.Normalize((1.0,), (1.0,))),
            "but no image: set scale",
        ),
        ((p.ReadArray(), p.PadOrTrim(3)), "rows are single numbers"),
    ],
)
def test_steps_that_do_not_fit_together(steps, words):
    """Preprocessing steps in a wrong order, or a function of the user's as a step → refused by input and step."""
    with pytest.raises(UserError, match=f"preprocessing of 'raw'.*{words}") as error:
        p.Preprocessing("raw", steps)
    one_line(str(error.value))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: p.Resize((4, 0)), r"Resize: size is \(4, 0\); expected .a whole number, 1 or more"),
        (lambda: p.Resample(100), "Resample: rate is 100; expected 4000"),
        (lambda: p.LogMel(8_000, low=5_000.0), "LogMel: low=5000.0, high=None; expected 0 ≤ low < high ≤ 4000 Hz"),
        (lambda: p.LogMel(8_000, step_db=0.1), "step_db=0.1; expected .* fit in uint8"),
        (lambda: p.LogMel(8_000, bands=200, window=64), "bands=200 are too narrow for window=64"),
        (lambda: p.Normalize((0.5,), (0.0,)), "Normalize: .*std above 0"),
        (lambda: p.Tokenize(WORDS, 9), "length=9: this model supports at most 8 tokens"),
        (lambda: p.Processed(data.Pictures(), {"rate": 8_000}), "Pictures has no option rate"),
        (
            lambda: p.ReadArray((2**15, 2**15)).row_spec and p.Preprocessing("x", (p.ReadArray((2**15, 2**15)),)),
            "or less",
        ),
    ],
)
def test_settings_of_steps(make, words):
    """A step with a setting of another type or out of range → refused by step and setting."""
    with pytest.raises(UserError, match=words) as error:
        make()
    one_line(str(error.value))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")
    photo = p.Preprocessing("photo", (p.Processed(data.Pictures(size=(4, 4))),))
    saved.write(place, [AUDIO, p.Preprocessing("text", (p.Tokenize(WORDS, 4),)), photo])
    return place


def step(content, entry=0, i=0):
    return content["entries"][entry]["steps"][i]


def renamed(content, name):
    content["files"] = {name: next(iter(content["files"].values()))}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(format=2), "format 2, of a newer mmkd_jax; this one reads 1: upgrade it"),
        (lambda c: c.update(format="1"), "format '1'; expected 1"),
        (lambda c: c.update(entries={}), "lacks the list entries"),
        (lambda c: c.update(files=[]), "lacks the list entries or the object files"),
        (lambda c: c["entries"].append(3), "an entry is 3; expected an object"),
        (lambda c: c["entries"][0].update(input=3), "input is 3; expected a name"),
        (lambda c: c["entries"][0].update(steps="abc"), "steps is 'abc'; expected a list"),
        (lambda c: c["entries"][0].update(steps=[]), "expected a tuple of steps"),
        (lambda c: c["entries"][0]["steps"].reverse(), "step 1, LogMel: it reads a waveform, not a raw value"),
        (lambda c: step(c).update(step="Denoise"), "step .Denoise. is unknown; this version has CenterCrop"),
        (lambda c: step(c).update(step="os.system"), "step .os.system. is unknown"),
        (lambda c: step(c).update(step=["Resample"]), "step .*is unknown"),
        (lambda c: step(c).update(settings=None), "Resample is None; expected an object"),
        (lambda c: step(c)["settings"].pop("strict"), "Resample has the fields channels, rate, source_rate; expected"),
        (lambda c: step(c)["settings"].update(code="x"), "Resample has the fields .*code.*; expected"),
        (lambda c: step(c)["settings"].update(rate="8000"), "Resample: rate is '8000'; expected a whole number"),
        (lambda c: step(c)["settings"].update(rate=True), "Resample: rate is True"),
        (lambda c: step(c)["settings"].update(rate=float("nan")), "Resample: rate is nan"),
        (lambda c: step(c)["settings"].update(strict=1), "Resample: strict is 1; expected True or False"),
        (lambda c: step(c, 0, 1)["settings"].update(length=2**31), "PadOrTrim: length is"),
        (lambda c: step(c, 0, 1)["settings"].update(length=2**29), "268,435,456 values or less"),
        (lambda c: step(c, 0, 2)["settings"].update(window=2**30), "LogMel: window=1073741824"),
        (lambda c: step(c, 0, 2)["settings"].update(scale={}), "LogMel: scale is {}; expected 'htk' or"),
        (lambda c: step(c, 1)["settings"].update(tokenizer="a"), "a tokenizer is 'a'; expected an object"),
        (
            lambda c: step(c, 1)["settings"]["tokenizer"].update(folder="../.."),
            r"folder is '\.\./\.\.', which has no files",
        ),
        (lambda c: step(c, 1)["settings"]["tokenizer"].update(folder=["x"]), r"folder is \['x'\], which has no files"),
        (lambda c: step(c, 1)["settings"]["tokenizer"].update(padding=-1), "padding is -1; expected 0 or more"),
        (lambda c: step(c, 1)["settings"]["tokenizer"].update(whole="no"), "whole is 'no'; expected True or False"),
        (lambda c: step(c, 1)["settings"].update(length=9), "length=9: this model supports at most 8 tokens"),
        (lambda c: step(c, 2)["settings"]["processor"].update(processor="Tokenizer"), "Tokenizer. is unknown"),
        (lambda c: step(c, 2)["settings"]["processor"]["settings"].update(modality=3), "Pictures: modality is 3"),
        (lambda c: step(c, 2)["settings"]["processor"]["settings"].update(size=-1), "images: size=-1"),
        (lambda c: step(c, 2)["settings"]["processor"]["settings"].update(mean=[0.5, 0.5]), "images: mean"),
        (lambda c: step(c, 2)["settings"].update(options={"rows": [1]}), "Pictures has no option rows"),
        (lambda c: renamed(c, "../../tokenizer.json"), r"names the file '?\.\./\.\./tokenizer.json"),
        (lambda c: renamed(c, "/etc/passwd"), "names the file '?/etc/passwd"),
        (lambda c: renamed(c, "tokenizer-0/../x.json"), "names the file"),
        (lambda c: renamed(c, "tokenizer-0/run.py"), "names the file '?tokenizer-0/run.py"),
        (lambda c: renamed(c, "tokenizer-1/tokenizer.json"), "there is no file .*tokenizer-1"),
        (lambda c: c["files"].update({"tokenizer-0/tokenizer.json": "0" * 64}), "tokenizer.json is damaged .*SHA-256"),
        (lambda c: c["files"].update({"tokenizer-0/tokenizer.json": None}), "tokenizer.json is damaged .*SHA-256"),
        (lambda c: c["files"].pop("tokenizer-0/tokenizer.json"), "tokenizer-0 has no tokenizer.json"),
    ],
)
def test_a_saved_description_that_was_changed(edit, words, folder, tmp_path):
    """A preprocess.json of a newer format; or with an unknown step, field or file, a value of another type, a path out
    of its folder, or another hash → refused by name; nothing in it is run.
    """
    place = tmp_path / "saved"
    shutil.copytree(folder, place)
    content = files.read_json(place / saved.FILE)
    edit(content)
    files.write_json(place / saved.FILE, content)
    with pytest.raises(UserError, match=words) as error:
        saved.read(place)
    one_line(str(error.value).replace(str(tmp_path), ""))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("preprocess.json", lambda x: x.replace(b"8000", b"8001"), "damaged .it has another SHA-256 than recorded"),
        ("preprocess.json", lambda x: x[:100], "is not valid JSON"),
        ("preprocess.json", lambda x: b"[" * 100_000, "is not valid JSON"),
        ("preprocess.json", lambda x: b"{}", "damaged"),
        ("tokenizer-0/tokenizer.json", lambda x: x.replace(b"day", b"dax"), "damaged .it has another SHA-256"),
        ("tokenizer-0/tokenizer.json", lambda x: b"", "damaged .it has another SHA-256"),
    ],
)
def test_a_saved_file_that_is_damaged(name, damage, words, folder, tmp_path):
    """A file of saved preprocessing that is damaged or cut off → refused by name."""
    place = tmp_path / "saved"
    shutil.copytree(folder, place)
    (place / name).write_bytes(damage((place / name).read_bytes()))
    with pytest.raises(UserError, match=f"{pathlib.Path(name).name}.*{words}"):
        saved.read(place)


def declaring(**changes):
    return teacher_and_student(**changes)["kd"]


def test_steps_of_a_training_that_give_other_columns():
    """Steps of `Training(preprocess=…)` or of the data set that give an unknown column, or one of another shape or
    dtype → refused by raw input and column.
    """
    training = declaring()
    name, spec = next((k, s) for k, s in training.data.dataset.spec.items() if s.dtype == np.float32 and s.shape)
    right = (p.ReadArray(spec.shape),)
    known = dataclasses.replace(training, preprocess={name: right})
    assert known.preprocessing == (p.Preprocessing(name, right),)
    cases = [
        ({"sound": right}, "preprocess.'sound'. gives sound, but the columns of the data are"),
        (
            {name: (p.ReadArray((99,)),)},
            rf"gives '{name}' as float32\[99\], but the data have float32\[{spec.shape[0]}",
        ),
        ({name: (p.ReadArray(spec.shape, "int32"),)}, f"gives '{name}' as int32"),
        ({name: (p.Resize(3),)}, f"preprocessing of '{name}', step 1, Resize: it reads an image"),
    ]
    for preprocess, words in cases:
        with pytest.raises(UserError, match=words) as error:
            dataclasses.replace(training, preprocess=preprocess)
        one_line(str(error.value))
    rows = dataclasses.replace(training.data.dataset, preprocess=(p.Preprocessing(name, (p.ReadArray((99,)),)),))
    loader = data.InMemory(rows, 4)
    with pytest.raises(UserError, match=f"Dataset.preprocess.'{name}'. gives"):
        dataclasses.replace(training, data=loader)
    assert dataclasses.replace(training, data=loader, preprocess={name: right}).preprocessing == known.preprocessing
