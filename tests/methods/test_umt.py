"""UMT: each modality's features and their own teacher; rows that lack the modality."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import total
from mmkd_jax.errors import UserError
from mmkd_jax.methods import umt
from tests.methods.cross import METHODS, first_outputs, without
from tests.methods.trained import gradients
from tests.small import compiled, make_batch

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.full
def test_values():
    outputs = first_outputs()
    method = METHODS["umt"]
    params, state = compiled(method).init(outputs)
    assert {k: round(float(v), 6) for k, v in hyperparams_of(state).items()} == {
        "image.weight": 0.1,
        "audio.weight": 0.1,
    }
    terms, _ = compiled(method).apply(params, state, outputs)
    _, metrics = total(terms)
    for m in ("image", "audio"):
        layer = {k: np.asarray(x) for k, x in params[m]["student"]["Dense_0"].items()}
        s = np.asarray(outputs[f"student.features.{m}"]) @ layer["kernel"] + layer["bias"]
        values = np.mean((s - np.asarray(outputs[f"{m}_teacher.features.{m}"])) ** 2, 1)
        np.testing.assert_allclose(terms[m].values, values, rtol=1e-4)
        rows = outputs.batch["valid"] & outputs.batch.get(f"present.{m}", True)
        np.testing.assert_allclose(metrics[m][0], values[rows].sum(), rtol=1e-4)
        assert int(metrics[m][1]) == int(rows.sum())
    assert int(metrics["audio"][1]) < int(metrics["image"][1])  # some rows are silent


def test_each_modality_hears_its_own_teacher_only():
    to_params, to_outputs = gradients(METHODS["umt"], first_outputs())
    student = to_outputs["student"]
    assert min(np.abs(student[f"features.{m}"]).max() for m in ("image", "audio")) > 1e-5
    assert not np.any(student["embedding"]) and not any(np.any(g) for g in to_outputs["image_teacher"].values())
    assert to_params.keys() == {"image", "audio"}
    _, to_outputs = gradients(umt({"image": "image_teacher.features.image"}), first_outputs())
    assert not np.any(to_outputs["student"]["features.audio"])


def test_of_equal_widths_nothing_is_added():
    outputs = first_outputs()
    same = dataclasses.replace(outputs, by_model={**outputs.by_model, "image_teacher": outputs.by_model["student"]})
    method = umt({"image": "image_teacher.features.image"})
    params, state = compiled(method).init(same)
    assert params == {"image": {}}
    assert not np.any(compiled(method).apply(params, state, same)[0]["image"].values)


def test_refusals():
    batch = make_batch()
    outputs = first_outputs(batch)
    silent = dataclasses.replace(outputs, batch=without(outputs.batch, "audio"))
    with pytest.raises(UserError, match="no modality 'audio'; it has: example_id, image"):
        compiled(METHODS["umt"]).init(silent)
    with pytest.raises(UserError, match="'student' has no 'features.touch'"):
        touched = dataclasses.replace(outputs, batch={**outputs.batch, "touch": jnp.ones((16, 2))})
        umt({"touch": "image_teacher.features.image"}).init(touched)
    with pytest.raises(UserError, match="teachers is empty"):
        umt({})
