"""`Multimodal`: auxiliary classifiers and heads of the modalities."""

import jax
import numpy as np

from mmkd_jax import models, tasks
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from tests.small import applied

ENCODERS = {"image": ImageMLP((4,)), "audio": AudioTDNN((4, 3))}


def batch():
    draw = np.random.default_rng(0)
    return {
        "image": draw.random((3, 4, 4), dtype=np.float32),
        "audio": draw.random((3, 6, 5), dtype=np.float32),
        "present.audio": np.array([True, False, True]),
        "example_id": np.arange(3),
    }


def test_auxiliary_classifiers_read_the_features_of_their_modality():
    model = linen(Multimodal(ENCODERS, 3, 4, auxiliary=True))
    variables = model.init(jax.random.key(0), batch())
    assert model.class_outputs == ("logits", "logits.image", "logits.audio")
    outputs, _ = applied(model, variables, batch(), StepContext(0, jax.random.key(0)))
    for m in ENCODERS:
        dense = variables["params"][f"auxiliary_{m}"]["Dense_0"]
        here = batch().get(f"present.{m}", np.ones(3, bool))[:, None]
        expected = np.where(here, outputs[f"features.{m}"], 0) @ dense["kernel"] + dense["bias"]
        np.testing.assert_allclose(outputs[f"logits.{m}"], expected, rtol=1e-5, atol=1e-6)


def test_auxiliary_heads_have_variables_of_their_modality():
    model = linen(Multimodal(ENCODERS, head=models.head_for(tasks.regression()), width=4, auxiliary=True))
    variables = model.init(jax.random.key(0), batch())
    outputs, _ = applied(model, variables, batch(), StepContext(0, jax.random.key(0)))
    names = [n for n in outputs if n.startswith("prediction")]
    assert sorted(names) == ["prediction", "prediction.audio", "prediction.image"]
    assert {"auxiliary_image", "auxiliary_audio"} <= set(variables["params"])
    assert len({float(outputs[n][0]) for n in names}) == 3
