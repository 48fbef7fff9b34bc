"""Model folders with an image processor that only transformers has; and processors that are not read."""

import json

import jax
import numpy as np
import pytest

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError
from mmkd_jax.models import Encoders, TransformerConfig, Vit

CONFIG = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12)
SMALL = Encoders({"image": Vit(size=(8, 12), patch=(4, 4), config=CONFIG)})
FIELDS = {"size": {"height": 8, "width": 12}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
FIELDS |= {"resample": 3}


def write(folder, kind, **fields):
    pretrained.save(folder, "vit", SMALL, pretrained.initial(SMALL, jax.random.key(1)))
    (folder / FILE).write_text(json.dumps({"image_processor_type": f"{kind}ImageProcessor", **fields}))
    return folder


def test_a_model_with_a_processor_of_transformers(tmp_path):
    """PVT's has the pixels of ViT's, which is read here: outputs are equal, and what is saved has the file."""
    ours, theirs = (pretrained.load(write(tmp_path / k, k, **FIELDS)) for k in ("ViT", "Pvt"))
    assert isinstance(theirs.processor, OtherPictures) and theirs.processor.mean == (0.5, 0.4, 0.3)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    found = []
    for loaded in (ours, theirs):
        batch = loaded.processor(pictures) | {"example_id": np.arange(2, dtype=np.int32)}
        outputs, _ = loaded.model.apply(loaded.variables, batch, StepContext(0, jax.random.key(0), train=False), {})
        found.append(outputs["features.image"])
    np.testing.assert_allclose(*found, atol=1e-5)
    pretrained.save(tmp_path / "saved", theirs.kind, theirs.module, theirs.variables, theirs.processor)
    assert (tmp_path / "saved" / FILE).read_bytes() == (tmp_path / "Pvt" / FILE).read_bytes()
    renamed = pretrained.with_inputs(theirs, image="other").processor
    assert list(renamed(pictures)) == ["other"]


def test_recordings_of_another_class(tmp_path):
    """Their samples or spectra would be others."""
    for family, name in ((pretrained.wav2vec2, "wav2vec2"), (pretrained.whisper, "whisper"), (pretrained.ast, "ast")):
        kind = {"ast": "audio-spectrogram-transformer"}.get(name, name)
        (tmp_path / FILE).write_text(json.dumps({"feature_extractor_type": "SeamlessM4TFeatureExtractor"}))
        with pytest.raises(UserError, match="of feature extractor .SeamlessM4T., which is not supported: process"):
            family.processor(tmp_path, {"model_type": kind})
