"""Videos prepared as transformers' own processors do, whatever the number, size and mode of their pictures."""

import json

import numpy as np
import pytest
import transformers

from mmkd_jax import pretrained
from mmkd_jax.data.images import FILE
from mmkd_jax.pretrained import video
from tests.parity.cases import quiet
from tests.parity.test_pictures import pictures

FRAMES = 3
SETTINGS = {
    "VivitImageProcessor": ("vivit", {}),
    "VivitImageProcessor, no offset": ("vivit", {"offset": False, "rescale_factor": 1 / 255, "image_std": [0.2] * 3}),
    "VivitImageProcessor, not normalised": (
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
            numbers = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
            read = video.Videos(pretrained.video.images.Pictures(size=None), t)
            np.testing.assert_array_equal(read([numbers])["video"][0, :, 0, 0, 0], expected)


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
