"""Data sets from Hugging Face's `datasets`, which is installed with PyTorch only."""

import doctest
import io
from typing import Any

import datasets
import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from mmkd_jax import data
from mmkd_jax.data.preprocess import PadOrTrim, ReadArray, ReadImage, Resample, Resize, TrainTokenizer
from mmkd_jax.errors import UserError

FEATURES = datasets.Features({
    "image": datasets.Image(),
    "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},  # `Audio` encodes with torchcodec
    "text": datasets.Value("string"),
    "sizes": datasets.List(datasets.Value("int64")),
    "day": datasets.Value("date32"),
    "label": datasets.ClassLabel(names=["cat", "dog"]),
    "rating": datasets.Value("float32"),
})  # fmt: skip
PHOTO: Any = (ReadImage(), Resize((4, 4)))
SOUND = (Resample(4_000), PadOrTrim(9))


def picture(i):
    return np.random.default_rng(i).integers(0, 256, (5 + i, 6, 3), dtype=np.uint8)


def content(i, kind):
    file = io.BytesIO()
    if kind == "image":
        Image.fromarray(picture(i)).save(file, "PNG")
    else:
        scipy.io.wavfile.write(file, 8_000, (np.arange(20 + i) * 100).astype(np.int16))
    return {"bytes": file.getvalue(), "path": None}


def split(rows, **changed):
    columns = {
        "image": [content(i, "image") for i in rows],
        "audio": [content(i, "audio") for i in rows],
        "text": [f"a day {i}" for i in rows],
        "sizes": [[i, 1] for i in rows],
        "day": [None for _ in rows],
        "label": [i % 2 for i in rows],
        "rating": [i / 2 for i in rows],
    }
    return datasets.Dataset.from_dict(columns | changed, features=FEATURES).cast_column("audio", datasets.Audio())


def test_columns_are_those_of_the_steps(tmp_path):
    train = split(range(3), image=[content(0, "image"), None, content(2, "image")], label=[0, -1, None])
    train.save_to_disk(tmp_path / "train")
    both = datasets.DatasetDict({"train": datasets.load_from_disk(tmp_path / "train"), "test": split([3, 4])})
    inputs = {"photo": PHOTO, "audio": SOUND, "text": TrainTokenizer(9, 4), "sizes": ReadArray((2,))}
    found = data.from_huggingface(both, inputs, label="label", rename={"photo": "image"})
    rows = found["train"].columns
    assert rows["present.photo"].tolist() == [True, False, True] and not rows["photo"][1].any()
    np.testing.assert_array_equal(rows["photo"][2], PHOTO[1]([picture(2)], ["photo 2"])[0])
    expected = Resample(4_000, source_rate=8_000)([(np.arange(22) * 100).astype(np.int16)], ["audio 2"])[0]
    np.testing.assert_array_equal(rows["audio"][2], expected[:9])
    assert rows["text.ids"].tolist() == [[2, 3, 1, 0]] * 3 and rows["sizes"].tolist() == [[0, 1], [1, 1], [2, 1]]
    assert rows["label"].tolist() == [0, 0, 0] and rows["labelled"].tolist() == [True, False, False]
    assert found["test"].columns["example_id"].tolist() == [3, 4] and found["test"].about == {"classes": ["cat", "dog"]}
    assert all(s.spec == found["test"].spec for s in found.values())
    assert found["train"].where("labelled").size == 1


def test_fingerprints_are_of_the_content():
    rows = split(range(4))

    def of(dataset):
        return data.from_huggingface(dataset, {"image": PHOTO}, label="rating")["train"]

    assert of(rows).fingerprint == of(split(range(4))).fingerprint != of(rows.select([0, 2])).fingerprint
    assert of(rows.select([2, 0])).columns["label"].tolist() == [1, 0] and "labelled" not in of(rows).spec


def test_the_example_of_the_documentation_is_run_where_datasets_are_installed():
    text = (data.from_huggingface.__doc__ or "").replace("# doctest: +SKIP", "")
    names = {"from_huggingface": data.from_huggingface}
    example = doctest.DocTestParser().get_doctest(text, names, "from_huggingface", None, None)
    assert len(example.examples) == 9
    assert doctest.DocTestRunner().run(example).failed == 0


BAD: dict[str, Any] = {
    "an iterable": (lambda: split([0]).to_iterable_dataset(), {}, "IterableDataset; expected a datasets.Dataset"),
    "arrays": (lambda: np.zeros(3), {}, "ndarray; expected a datasets.Dataset"),
    "no such column": (lambda: split([0]), {"inputs": {"photo": PHOTO}}, "has no column 'photo'; it has: audio, day"),
    "dates": (lambda: split([0]), {"inputs": {"day": ReadArray()}}, "column 'day' is Value.'date32'.; expected Image"),
    "a label of words": (lambda: split([0]), {"label": "text"}, "expected ClassLabel, as of dataset.class_encode_col"),
    "no labels": (lambda: split([0], label=[None]), {"label": "label"}, "label 'label' is missing in all rows"),
    "NaN": (lambda: split([0], rating=[np.nan]), {"label": "rating"}, "'rating' is nan in row 0; expected a finite"),
    "no test label": (
        lambda: {"train": split([0]), "test": split([1], label=[-1])},
        {"label": "label"},
        "split 'test': label 'label' is missing in row 0",
    ),
    "no image": (
        lambda: split([0], image=[{"bytes": b"<html>", "path": None}]),
        {},
        "huggingface, split 'train': image 0 is .*; expected an image",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    made, how, expected = BAD[case]
    with pytest.raises(UserError, match=expected) as error:
        data.from_huggingface(made(), **({"inputs": {"image": PHOTO}} | how))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
