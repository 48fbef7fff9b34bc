"""Data sets from folders and builders of TensorFlow Datasets, where TensorFlow is not installed."""

import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmkd_jax import data
from mmkd_jax.data import GrainLoader, InMemory
from mmkd_jax.data.preprocess import PadOrTrim, ReadArray, ReadImage, ReadVideo, Resample, Resize, TrainTokenizer
from mmkd_jax.errors import UserError

F: Any = tfds.features
CLASSES = "tensorflow_datasets.core.features."


def picture(i):
    return np.random.default_rng(i).integers(0, 256, (5 + i, 6, 3), dtype=np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sound(i):
    return (np.arange(20 + i) * 100).astype(np.int64)


FEATURES = {
    "captioned": {
        "image": F.Image(shape=(None, None, 3)),
        "text": F.Text(),
        "label": F.ClassLabel(names=["cat", "dog"]),
    },
    "rated": {
        "sizes": F.Sequence(np.float32, length=3),
        "table": F.Tensor(shape=(2, 2), dtype=np.uint8),
        "rating": F.Scalar(np.float32),
    },
    "filmed": {
        "video": F.Sequence(F.Image(shape=(6, 6, 3))),
        "audio": F.Tensor(shape=(None,), dtype=np.int64),
        "box": F.BBoxFeature(),
        "nested": {"a": F.Scalar(np.int32)},
        "any": F.Sequence(np.int64),
        "label": F.ClassLabel(num_classes=2),
    },
}


def row(name, i):
    if name == "captioned":
        return {"image": png(picture(i)), "text": f"a day {i}", "label": i % 2}
    if name == "rated":
        return {"sizes": [i, 1, 2], "table": np.full((2, 2), i, np.uint8), "rating": i / 2}
    frames = [png(picture(1)), png(picture(1)[::-1])]
    box = F.BBox(0.0, 0.0, 0.5, 0.5)
    return {"video": frames, "audio": sound(i), "box": box, "nested": {"a": 1}, "any": [1] * i, "label": i % 2}


def built(name, folder):
    """Prepare a data set of two splits with three rows and two."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, disable_shuffling=True, features=F.FeaturesDict(FEATURES[name]))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(3)), "test": self._generate_examples(range(3, 5))}

        def _generate_examples(self, rows):
            for i in rows:
                yield i, row(name, i)

    Builder.name = name
    builder = Builder(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module")
def builders(tmp_path_factory):
    tfds.disable_progress_bar()
    folder = tmp_path_factory.mktemp("tfds")
    return {name: built(name, folder) for name in FEATURES}


def as_tensorflow_writes(builder, target):
    """Copy a folder whose features are named Audio and Video, which are stored like the Tensor and the images."""
    folder = pathlib.Path(shutil.copytree(builder.data_dir, target))
    tree = json.loads((folder / "features.json").read_text())
    features = tree["featuresDict"]["features"]
    tensor, frame = features["audio"]["tensor"], features["video"]["sequence"]["feature"]["image"]
    audio = {"dtype": "int64", "encoding": "NONE", "sampleRate": "8000", "shape": tensor["shape"]}
    video = {"dtype": "uint8", "encodingFormat": "png", "shape": {"dimensions": ["-1", *frame["shape"]["dimensions"]]}}
    features["audio"] = {"audio": audio, "pythonClassName": f"{CLASSES}audio_feature.Audio"}
    features["video"] = {"video": video, "pythonClassName": f"{CLASSES}video_feature.Video"}
    (folder / "features.json").write_text(json.dumps(tree))
    return folder


PHOTO: Any = (ReadImage(), Resize((4, 4)))


def test_pictures_and_texts(builders, tmp_path):
    inputs = {"photo": PHOTO, "text": TrainTokenizer(9, 4)}
    found = data.from_tfds(builders["captioned"], inputs, label="label", rename={"photo": "image"}, cache=tmp_path)
    assert {k: x.size for k, x in found.items()} == {"train": 3, "test": 2}
    test = found["test"]
    assert test.about == {"classes": ["cat", "dog"]} and test.columns["label"].tolist() == [1, 0]
    assert test.columns["example_id"].tolist() == [3, 4] and test.columns["text.ids"].tolist() == [[2, 3, 1, 0]] * 2
    np.testing.assert_array_equal(test.columns["photo"], [PHOTO[1]([picture(i)], [f"p {i}"])[0] for i in (3, 4)])
    memory, streamed = (next(kind(found["train"], batch_size=2).batches(0)) for kind in (InMemory, GrainLoader))
    for k, x in streamed.items():
        np.testing.assert_array_equal(np.asarray(memory[k]), x, err_msg=k)
    again = data.from_tfds(
        builders["captioned"].data_dir, inputs, label="label", rename={"photo": "image"}, cache=tmp_path
    )
    assert again["train"].fingerprint == found["train"].fingerprint != found["test"].fingerprint


def test_numbers(builders, tmp_path):
    inputs = {"sizes": ReadArray((3,)), "table": ReadArray((2, 2), "uint8")}
    train = data.from_tfds(builders["rated"], inputs, label="rating", cache=tmp_path)["train"]
    assert train.columns["sizes"].tolist() == [[0, 1, 2], [1, 1, 2], [2, 1, 2]] and train.about == {}
    assert train.columns["label"].tolist() == [0, 0.5, 1] and train.spec["label"].dtype == np.float32


def test_recordings_and_videos_that_tensorflow_prepared(builders, tmp_path):
    folder = as_tensorflow_writes(builders["filmed"], tmp_path / "filmed")
    inputs = {"audio": (Resample(4_000), PadOrTrim(12)), "video": ReadVideo(2, (6, 6))}
    test = data.from_tfds(folder, inputs, label="label", cache=tmp_path)["test"]
    assert test.about["classes"] == ["0", "1"]
    expected = Resample(4_000, source_rate=8_000)([sound(3).astype(np.int16)], ["audio 0"])[0]
    np.testing.assert_array_equal(test.columns["audio"][0], np.pad(expected, (0, 12 - len(expected))))
    frames = [Image.fromarray(x).resize((6, 6), Image.Resampling.BILINEAR) for x in (picture(1), picture(1)[::-1])]
    np.testing.assert_array_equal(test.columns["video"][0], np.stack([np.asarray(x) for x in frames]))


BAD: dict[str, Any] = {
    "no such feature": (
        "captioned",
        {"inputs": {"sound": PHOTO}},
        "has no feature 'sound'; it has: image, label, text",
    ),
    "boxes": (
        "filmed",
        {"inputs": {"box": ReadArray((4,))}},
        "feature 'box' is of type BBoxFeature, which is not read",
    ),
    "nested": ("filmed", {"inputs": {"nested": ReadArray()}}, "'nested' is of type FeaturesDict, which is not read"),
    "any length": (
        "filmed",
        {"inputs": {"any": ReadArray()}},
        "'any' is a Sequence; expected one of images, or of num",
    ),
    "pictures as text": (
        "captioned",
        {"inputs": {"text": PHOTO}},
        "captioned, split 'train': text 0 starts with b'a day 0'; expected an image",
    ),
    "a label of another type": (
        "captioned",
        {"label": "text"},
        "label 'text' is Text.*; expected ClassLabel, or a sin",
    ),
    "no rate": ("filmed", {"inputs": {"audio": (Resample(8_000), PadOrTrim(9))}}, "ndarray without a sample rate"),
    "no train split": (
        "captioned",
        {"inputs": {"text": TrainTokenizer(9, 4)}, "train": "fit"},
        "no split 'fit' to fit",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(builders, tmp_path, case):
    name, how, expected = BAD[case]
    with pytest.raises(UserError, match=expected) as error:
        data.from_tfds(builders[name], **({"inputs": {"image": PHOTO}, "cache": tmp_path} | how))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_damaged_and_foreign_folders_are_one_line(builders, tmp_path):
    with pytest.raises(UserError, match="has no dataset_info.json"):
        data.from_tfds(tmp_path, {"image": PHOTO})
    with pytest.raises(UserError, match="source is a int; expected a folder or a builder"):
        data.from_tfds(3, {"image": PHOTO})

    def copied(name, change, file):
        folder = pathlib.Path(shutil.copytree(builders["captioned"].data_dir, tmp_path / name))
        path = next(folder.glob(file))
        path.write_bytes(change(path.read_bytes()))
        return folder

    cases = {
        "other format": (lambda x: x.replace(b"array_record", b"tfrecord"), "dataset_info.json", "the format tfrecord"),
        "not JSON": (lambda x: x[:-9], "dataset_info.json", "cannot be read"),
        "other features": (lambda x: b"{}", "features.json", "before 4.3: prepare it again"),
        "a list": (
            lambda x: b'{"featuresDict": {"features": {"image": []}}}',
            "features.json",
            "'image' is of type unk",
        ),
        "an empty shard": (lambda x: b"", "*train*record*", "cannot be read"),
        "half a shard": (lambda x: x[: len(x) // 2], "*train*record*", "cannot be read"),
    }
    for name, (change, file, expected) in cases.items():
        with pytest.raises(UserError, match=expected) as error:
            data.from_tfds(copied(name, change, file), {"image": PHOTO}, cache=tmp_path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500, name
