"""MKE: whose labels, which rows, how much noise, and where no gradient flows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import attacks, losses
from mmkd_jax.errors import UserError
from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import mke
from mmkd_jax.objective import total
from tests.methods.cross import METHODS, look, without
from tests.small import make_batch

pytestmark = pytest.mark.usefixtures("strict")
BOTH = {"modalities": ("image", "audio"), "teacher": "image_teacher"}


def spying(batch=None, step=0):
    """Views whose student notes on what it is run."""
    views, seen = look(batch, step), []
    run = views.run["student"]

    def spy(shown, patch=None, train=True):
        seen.append(shown)
        return run(shown, patch, train)

    return dataclasses.replace(views, run={**views.run, "student": spy}), seen


def noisy(views, m, alpha, size):
    x = np.asarray(views.batch[m], np.float32)
    drawn = attacks.row_noise(views.ctx.at(m).key, views.batch["example_id"], x.shape[1:])
    return x + alpha * size * np.asarray(drawn)


@pytest.mark.parametrize("one_scale", [False, True])
def test_the_noise(one_scale):
    views, seen = spying()
    method = mke(**BOTH, noise=0.5, one_scale=one_scale)
    method.apply(*method.init(views), views)
    rows = {m: np.asarray(views.batch["valid"] & views.batch.get(f"present.{m}", True)) for m in BOTH["modalities"]}
    clean = {m: np.abs(np.asarray(views.batch[m])[rows[m]]) for m in rows}
    whole = np.concatenate([x.ravel() for x in clean.values()]).mean()
    for m, x in clean.items():
        np.testing.assert_allclose(
            seen[-1][m], noisy(views, m, 0.5, whole if one_scale else x.mean()), rtol=1e-4, atol=1e-5
        )


def test_values_and_rows():
    method = METHODS["mke"]
    views, seen = spying()
    params, memory = method.init(views)
    assert {"noise", "pseudo.weight", "consistency.weight"} <= numbers(memory).keys()
    terms, after = method.apply(params, memory, views)
    assert jax.tree.structure(after) == jax.tree.structure(memory)
    logits = look().run["student"](seen[-1])["logits"]
    label = jnp.argmax(views["image_teacher.logits"], -1)
    np.testing.assert_allclose(terms["pseudo"].values, losses.cross_entropy(logits, label), rtol=1e-5)
    agree = losses.kl(logits, views["student.logits"])
    np.testing.assert_allclose(terms["consistency"].values, agree, rtol=1e-4, atol=1e-6)
    _, metrics = total(terms)
    valid, labelled = (np.asarray(views.batch[k]) for k in ("valid", "labelled"))
    assert int(metrics["pseudo"][1]) == (valid & ~labelled).sum() < valid.sum() == int(metrics["consistency"][1])


def test_without_noise_it_is_distillation():
    views = look()
    soft = mke(**BOTH, noise=0.0, hard=False, temperature=2.0)
    terms, _ = soft.apply(*soft.init(views), views)
    expected = losses.kl(views["student.logits"], views["image_teacher.logits"], temperature=2.0)
    np.testing.assert_allclose(terms["pseudo"].values, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(terms["consistency"].values, 0, atol=1e-6)


def test_the_clean_answer_is_what_the_noisy_one_is_pulled_to():
    method, views = mke(**BOTH, noise=1.0, consistency=1.0, weight=0.0), look()
    params, memory = method.init(views)

    def value(outputs):
        return total(method.apply(params, memory, dataclasses.replace(views, outputs=outputs))[0])[0]

    slope = jax.grad(value)(views.outputs)
    assert float(value(views.outputs)) > 1e-3
    assert not any(np.any(g) for g in jax.tree.leaves(slope))  # all of it flows through the noisy pass


def test_the_noise_is_new_in_each_step_and_belongs_to_the_example():
    method, shown = METHODS["mke"], []
    for step, order in ((0, np.arange(16)), (0, np.arange(16)[::-1]), (1, np.arange(16))):
        views, seen = spying({k: x[order] for k, x in make_batch().items()}, step)
        method.apply(*method.init(views), views)
        shown.append(np.asarray(seen[-1]["audio"])[order])
    np.testing.assert_allclose(shown[0], shown[1], rtol=1e-5, atol=1e-6)
    assert np.abs(shown[0] - shown[2]).mean() > 0.1


def test_pixels_and_refusals():
    pixels = make_batch() | {"image": np.full((16, 2, 3, 1), 51, np.uint8)}
    views, seen = spying(pixels)
    method = mke(("image",), noise=0.0, teacher="image_teacher")
    method.apply(*method.init(views), views)
    np.testing.assert_allclose(seen[-1]["image"], 0.2, rtol=1e-6)
    views = look()
    with pytest.raises(UserError, match="no modality 'touch'"):
        mke(("image", "touch"), teacher="image_teacher").init(views)
    with pytest.raises(UserError, match="no modality 'audio'"):
        METHODS["mke"].init(dataclasses.replace(views, batch=without(views.batch, "audio")))


def test_token_ids_are_no_input_for_noise():
    views = look({**make_batch(), "ids": np.arange(16, dtype=np.int32)})
    with pytest.raises(UserError, match="mke: 'ids' is int32, to which no noise can be added"):
        mke(("ids",), teacher="image_teacher").init(views)
