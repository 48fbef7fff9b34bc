"""UMT: each modality's features and their own teacher; rows that lack the modality."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import umt
from mmkd_jax.objective import total
from tests.methods.cross import METHODS, look, without
from tests.methods.trained import gradients
from tests.small import make_batch

pytestmark = pytest.mark.usefixtures("strict")


def test_values():
    views = look()
    method = METHODS["umt"]
    params, memory = method.init(views)
    assert {k: round(float(v), 6) for k, v in numbers(memory).items()} == {"image.weight": 0.1, "audio.weight": 0.1}
    terms, _ = method.apply(params, memory, views)
    _, metrics = total(terms)
    for m in ("image", "audio"):
        layer = {k: np.asarray(x) for k, x in params[m]["student"]["Dense_0"].items()}
        s = np.asarray(views[f"student.features.{m}"]) @ layer["kernel"] + layer["bias"]
        values = np.mean((s - np.asarray(views[f"{m}_teacher.features.{m}"])) ** 2, 1)
        np.testing.assert_allclose(terms[m].values, values, rtol=1e-4)
        rows = views.batch["valid"] & views.batch.get(f"present.{m}", True)
        np.testing.assert_allclose(metrics[m][0], values[rows].sum(), rtol=1e-4)
        assert int(metrics[m][1]) == int(rows.sum())
    assert int(metrics["audio"][1]) < int(metrics["image"][1])  # some rows are silent


def test_each_modality_hears_its_own_teacher_only():
    to_params, to_outputs = gradients(METHODS["umt"], look())
    student = to_outputs["student"]
    assert min(np.abs(student[f"features.{m}"]).max() for m in ("image", "audio")) > 1e-5
    assert not np.any(student["embedding"]) and not any(np.any(g) for g in to_outputs["image_teacher"].values())
    assert to_params.keys() == {"image", "audio"}
    _, to_outputs = gradients(umt({"image": "image_teacher.features.image"}), look())
    assert not np.any(to_outputs["student"]["features.audio"])


def test_of_equal_widths_nothing_is_added():
    views = look()
    same = dataclasses.replace(views, outputs=views.outputs | {"image_teacher": views.outputs["student"]})
    method = umt({"image": "image_teacher.features.image"})
    params, memory = method.init(same)
    assert params == {"image": {}}
    assert not np.any(method.apply(params, memory, same)[0]["image"].values)


def test_refusals():
    batch = make_batch()
    views = look(batch)
    silent = dataclasses.replace(views, batch=without(views.batch, "audio"))
    with pytest.raises(UserError, match="no modality 'audio'; it has: example_id, image"):
        METHODS["umt"].init(silent)
    with pytest.raises(UserError, match="'student' has no 'features.touch'"):
        touched = dataclasses.replace(views, batch={**views.batch, "touch": jnp.ones((16, 2))})
        umt({"touch": "image_teacher.features.image"}).init(touched)
    with pytest.raises(UserError, match="no teacher"):
        umt({})
