"""RSLAD: the share of the attacked term, the range of the input, uint8, and that attacking leaves no trace."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.methods import rslad
from tests.small import look, make_batch, net, on_device

pytestmark = pytest.mark.usefixtures("strict")
MODELS = {"teacher": net(6), "student": net(8, batch_norm=True, dropout=0.5)}
PIXELS = {**make_batch(), "image": np.random.default_rng(0).integers(0, 256, (16, 2, 3, 1)).astype(np.uint8)}
KEY = jax.random.key(0)


def first_outputs(batch):
    """Outputs whose student notes on what it is run: (image, train)."""
    batch = on_device(batch)
    variables = {n: jax.jit(m.init)(KEY, batch) for n, m in MODELS.items()}
    outputs = look(MODELS, variables, batch, StepContext(jnp.int32(0), KEY))
    run, seen = outputs.run["student"], []

    def spy(shown, patch=None, train=True):
        seen.append((shown["image"], train))
        return run(shown, patch, train)

    return dataclasses.replace(outputs, run={"student": spy}), seen


@pytest.mark.full
def test_pixels_are_read_as_zero_to_one_and_stay_there():
    outputs, seen = first_outputs(PIXELS)
    part = rslad("image", attack=PGD(eps=0.2, step_size=0.1, steps=3))
    terms, _ = part.apply(*part.init(outputs), outputs)
    attacked, clean = np.asarray(seen[-1][0]), PIXELS["image"] / np.float32(255)
    assert attacked.dtype == np.float32 and attacked.min() >= 0 and attacked.max() <= 1
    assert np.abs(attacked - clean).max() <= 0.2 + 1e-6 and np.abs(attacked - clean).mean() > 0.05
    # found with train=False, shown with train=True
    assert seen[-1][1] and not any(train for _, train in seen[-2:-1])
    expected = losses.kl(
        outputs.run["student"]({**outputs.batch, "image": jnp.asarray(attacked)})["logits"], outputs["teacher.logits"]
    )
    np.testing.assert_allclose(terms["attacked"].values, expected, rtol=1e-5)
    np.testing.assert_allclose(
        terms["clean"].values, losses.kl(outputs["student.logits"], outputs["teacher.logits"]), rtol=1e-5
    )


def test_the_shares_add_up_to_one():
    outputs, _ = first_outputs(PIXELS)
    part = rslad("image", attack=PGD(steps=1), alpha=0.7, where="labelled")
    params, state = part.init(outputs)
    found = hyperparams_of(state)
    assert {k: round(float(v), 6) for k, v in found.items() if "weight" in k} == {
        "clean.weight": 0.3,
        "attacked.weight": 0.7,
    }
    assert {"attack.eps", "attack.step_size"} <= set(found)
    terms, after = part.apply(params, state, outputs)
    value, metrics = total(terms)
    means = {k: float(s / c) for k, (s, c) in metrics.items()}
    np.testing.assert_allclose(value, 0.3 * means["clean"] + 0.7 * means["attacked"], rtol=1e-5)
    assert float(metrics["clean"][1]) == (PIXELS["labelled"] & PIXELS["valid"]).sum()
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_the_attack_belongs_to_the_example():
    part = rslad("image", attack=PGD(eps=0.2, step_size=0.05, steps=2))
    found = []
    for order in (np.arange(16), np.arange(16)[::-1]):
        outputs, seen = first_outputs({k: x[order] for k, x in PIXELS.items()})
        part.apply(*part.init(outputs), outputs)
        found.append(np.asarray(seen[-1][0])[order])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
