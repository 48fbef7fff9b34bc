"""MKE: whose labels, which rows, how much noise, and where no gradient flows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.adversarial import attacks
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import total
from mmkd_jax.errors import UserError
from mmkd_jax.methods import mke
from tests.methods.cross import METHODS, first_outputs, without
from tests.methods.trained import gradients
from tests.small import make_batch

pytestmark = pytest.mark.usefixtures("strict")
BOTH = {"modalities": ("image", "audio"), "teacher": "image_teacher"}


def spying(batch=None, step=0):
    """Outputs whose student notes on what it is run."""
    outputs, seen = first_outputs(batch, step), []
    run = outputs.run["student"]

    def spy(shown, patch=None, train=True):
        seen.append(shown)
        return run(shown, patch, train)

    return dataclasses.replace(outputs, run={**outputs.run, "student": spy}), seen


def noisy(outputs, m, alpha, size):
    x = np.asarray(outputs.batch[m], np.float32)
    drawn = attacks.row_noise(outputs.ctx.at(m).key, outputs.batch["example_id"], x.shape[1:])
    return x + alpha * size * np.asarray(drawn)


@pytest.mark.full
@pytest.mark.parametrize("one_scale", [False, True])
def test_the_noise(one_scale):
    outputs, seen = spying()
    method = mke(**BOTH, noise=0.5, one_scale=one_scale)
    method.apply(*method.init(outputs), outputs)
    rows = {m: np.asarray(outputs.batch["valid"] & outputs.batch.get(f"present.{m}", True)) for m in BOTH["modalities"]}
    clean = {m: np.abs(np.asarray(outputs.batch[m])[rows[m]]) for m in rows}
    whole = np.concatenate([x.ravel() for x in clean.values()]).mean()
    for m, x in clean.items():
        np.testing.assert_allclose(
            seen[-1][m], noisy(outputs, m, 0.5, whole if one_scale else x.mean()), rtol=1e-4, atol=1e-5
        )


def test_values_and_rows():
    method = METHODS["mke"]
    outputs, seen = spying()
    params, state = method.init(outputs)
    assert {"noise", "pseudo.weight", "consistency.weight"} <= hyperparams_of(state).keys()
    terms, after = method.apply(params, state, outputs)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    logits = first_outputs().run["student"](seen[-1])["logits"]
    label = jnp.argmax(outputs["image_teacher.logits"], -1)
    np.testing.assert_allclose(terms["pseudo"].values, losses.cross_entropy(logits, label), rtol=1e-5)
    agree = losses.kl(logits, outputs["student.logits"])
    np.testing.assert_allclose(terms["consistency"].values, agree, rtol=1e-4, atol=1e-6)
    _, metrics = total(terms)
    valid, labelled = (np.asarray(outputs.batch[k]) for k in ("valid", "labelled"))
    assert int(metrics["pseudo"][1]) == (valid & ~labelled).sum() < valid.sum() == int(metrics["consistency"][1])


def test_without_noise_it_is_distillation():
    outputs = first_outputs()
    soft = mke(**BOTH, noise=0.0, hard=False, temperature=2.0)
    terms, _ = soft.apply(*soft.init(outputs), outputs)
    expected = losses.kl(outputs["student.logits"], outputs["image_teacher.logits"], temperature=2.0)
    np.testing.assert_allclose(terms["pseudo"].values, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(terms["consistency"].values, 0, atol=1e-6)


def test_the_clean_answer_is_what_the_noisy_one_is_pulled_to():
    method, outputs = mke(**BOTH, noise=1.0, consistency=1.0, weight=0.0), first_outputs()
    _, slope = gradients(method, outputs)
    assert float(total(method.apply(*method.init(outputs), outputs)[0])[0]) > 1e-3
    assert not any(np.any(g) for g in jax.tree.leaves(slope))  # all of it flows through the noisy pass


def test_the_noise_is_new_in_each_step_and_belongs_to_the_example():
    method, shown = METHODS["mke"], []
    for step, order in ((0, np.arange(16)), (0, np.arange(16)[::-1]), (1, np.arange(16))):
        outputs, seen = spying({k: x[order] for k, x in make_batch().items()}, step)
        method.apply(*method.init(outputs), outputs)
        shown.append(np.asarray(seen[-1]["audio"])[order])
    np.testing.assert_allclose(shown[0], shown[1], rtol=1e-5, atol=1e-6)
    assert np.abs(shown[0] - shown[2]).mean() > 0.1


def test_pixels_and_refusals():
    pixels = make_batch() | {"image": np.full((16, 2, 3, 1), 51, np.uint8)}
    outputs, seen = spying(pixels)
    method = mke(("image",), noise=0.0, teacher="image_teacher")
    method.apply(*method.init(outputs), outputs)
    np.testing.assert_allclose(seen[-1]["image"], 0.2, rtol=1e-6)
    outputs = first_outputs()
    with pytest.raises(UserError, match="no modality 'touch'"):
        mke(("image", "touch"), teacher="image_teacher").init(outputs)
    with pytest.raises(UserError, match="no modality 'audio'"):
        METHODS["mke"].init(dataclasses.replace(outputs, batch=without(outputs.batch, "audio")))


def test_token_ids_are_no_input_for_noise():
    outputs = first_outputs({**make_batch(), "ids": np.arange(16, dtype=np.int32)})
    with pytest.raises(UserError, match="mke: cannot add noise to 'ids' of dtype int32"):
        mke(("ids",), teacher="image_teacher").init(outputs)
