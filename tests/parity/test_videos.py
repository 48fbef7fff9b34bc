"""Videos prepared as transformers' own processors do, whatever the number, size and mode of their pictures."""

import json

import numpy as np
import pytest
import torch
import transformers

from mmkd_jax import pretrained
from mmkd_jax.data.images import Pictures
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.models.timesformer import _nearest
from mmkd_jax.pretrained import video
from tests.parity.cases import answer, quiet, reference, saved
from tests.parity.test_pictures import pictures
from tests.parity.video_cases import DIVIDED, timesformer_case

FRAMES = 3
SETTINGS = {
    "VideoMAEImageProcessorPil": ("timesformer", {}),
    "VideoMAEImageProcessorPil, another size": (
        "timesformer",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 36}, "image_mean": [0.45] * 3},
    ),
    "VivitImageProcessor": ("vivit", {}),
    "VivitImageProcessor, no offset": ("vivit", {"offset": False, "rescale_factor": 1 / 255, "image_std": [0.2] * 3}),
    "VivitImageProcessor, not normalized": (
        "vivit",
        {"size": {"shortest_edge": 37}, "crop_size": {"height": 33, "width": 40}, "do_normalize": False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETTINGS)
def test_pixels_are_those_of_transformers(kind, tmp_path):
    family, fields = SETTINGS[kind]
    with quiet():
        theirs = getattr(transformers, kind.partition(",")[0])(**fields)
    theirs.save_pretrained(tmp_path)
    read = video.processor(tmp_path, {"model_type": family, "num_frames": FRAMES})
    rgb = [p.convert("RGB") for p in pictures()]  # real pictures and drawn ones
    clips, given = [rgb, rgb[::-1][:FRAMES]], [pictures(), pictures()[::-1][:FRAMES]]
    found = read(given)
    mean, std = (np.array(x, np.float32) for x in (read.pictures.mean, read.pictures.std))
    found = (found["video"].astype(np.float32) / 255 - mean) / std
    sampled = [[clips[0][k] for k in (0, 2, 4)], clips[1]]  # of six
    expected = np.asarray(theirs(sampled, return_tensors="np")["pixel_values"])
    np.testing.assert_allclose(found.transpose(0, 1, 4, 2, 3), expected, atol=1e-5)


def test_sampling_is_that_of_transformers():
    for n in range(1, 40):
        for t in range(1, n + 1):
            meta = transformers.video_utils.VideoMetadata(total_num_frames=n, fps=25)
            expected = transformers.video_utils.default_sample_indices_fn(meta, num_frames=t)
            hyperparams = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
            read = video.Videos(Pictures(size=None), t)
            np.testing.assert_array_equal(read([hyperparams])["video"][0, :, 0, 0, 0], expected)


def test_without_a_file_the_processor_is_the_family_s(tmp_path):
    for family, kind in {f: k for k, (f, fields) in SETTINGS.items() if not fields}.items():
        bare = video.processor(tmp_path, {"model_type": family}).pictures
        with quiet():
            getattr(transformers, kind)().save_pretrained(tmp_path)
        said = video.processor(tmp_path, {"model_type": family}).pictures
        assert json.loads(said.files[FILE]) and not bare.files
        for field in ("size", "crop", "resample"):
            assert getattr(bare, field) == getattr(said, field), field
        np.testing.assert_allclose([bare.mean, bare.std], [said.mean, said.std], rtol=1e-12)
        (tmp_path / FILE).unlink()


def test_attention_over_time_agrees_with_any_number_of_frames(tmp_path):
    case = timesformer_case(3, DIVIDED, given=(5, 8, 8))
    model, maps = saved(case, tmp_path), {}
    model.config.num_frames = 5  # by which its layers tell time from space; its tables are for 3
    for i, layer in enumerate(model.encoder.layer):
        attention = layer.temporal_attention.attention

        def keep(x, output_attentions=False, i=i, forward=attention.forward):  # it returns them to nobody
            out, maps[i] = forward(x, output_attentions=True)
            return (out,)

        attention.forward = keep
    theirs, ours = reference(model, case), answer(pretrained.load(tmp_path), case.batch)
    theirs |= {
        f"time_attentions.video.{i}": x.reshape(len(case.batch["video"]), 4, *x.shape[1:]).numpy()
        for i, x in maps.items()
    }
    assert len(maps) == 3 and theirs["time_attentions.video.0"].shape[1:] == (4, 4, 5, 5)  # places, heads, frames twice
    for name, x in theirs.items():
        np.testing.assert_allclose(ours[name], x, atol=2e-5 * max(1, np.abs(x).max()), err_msg=name)


def test_the_nearest_position_is_that_of_pytorch():
    for old in range(1, 40):
        for new in range(1, 60):
            table = torch.arange(old, dtype=torch.float32).reshape(1, 1, old)
            expected = torch.nn.functional.interpolate(table, size=new, mode="nearest")
            np.testing.assert_array_equal(_nearest(old, new), expected[0, 0].numpy())
