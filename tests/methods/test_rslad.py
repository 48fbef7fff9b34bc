"""RSLAD: the share of the attacked term, the range of the input, uint8, and that attacking leaves no trace."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import rslad
from mmkd_jax.objective import total
from mmkd_jax.views import Context, forward
from tests.small import make_batch, net, on_device

pytestmark = pytest.mark.usefixtures("strict")
MODELS = {"teacher": net(6), "student": net(8, batch_norm=True, dropout=0.5)}
PIXELS = {**make_batch(), "image": np.random.default_rng(0).integers(0, 256, (16, 2, 3, 1)).astype(np.uint8)}
KEY = jax.random.key(0)


def look(batch):
    """Views whose student notes on what it is run: (image, train)."""
    batch = on_device(batch)
    variables = {n: jax.jit(m.init)(KEY, batch) for n, m in MODELS.items()}
    views, _ = forward(MODELS, variables, batch, Context(jnp.int32(0), KEY))
    run, seen = views.run["student"], []

    def spy(shown, patch=None, train=True):
        seen.append((shown["image"], train))
        return run(shown, patch, train)

    return dataclasses.replace(views, run={"student": spy}), seen


def test_pixels_are_read_as_zero_to_one_and_stay_there():
    views, seen = look(PIXELS)
    part = rslad("image", eps=0.2, step_size=0.1, steps=3)
    terms, _ = part.apply(*part.init(views), views)
    attacked, clean = np.asarray(seen[-1][0]), PIXELS["image"] / np.float32(255)
    assert attacked.dtype == np.float32 and attacked.min() >= 0 and attacked.max() <= 1
    assert np.abs(attacked - clean).max() <= 0.2 + 1e-6 and np.abs(attacked - clean).mean() > 0.05
    # found with train=False, shown with train=True
    assert seen[-1][1] and not any(train for _, train in seen[-2:-1])
    expected = losses.kl(
        views.run["student"]({**views.batch, "image": jnp.asarray(attacked)})["logits"], views["teacher.logits"]
    )
    np.testing.assert_allclose(terms["attacked"].values, expected, rtol=1e-5)
    np.testing.assert_allclose(
        terms["clean"].values, losses.kl(views["student.logits"], views["teacher.logits"]), rtol=1e-5
    )


def test_the_shares_add_up_to_one():
    views, _ = look(PIXELS)
    part = rslad("image", steps=1, alpha=0.7, where="labelled")
    params, memory = part.init(views)
    found = numbers(memory)
    assert {k: round(float(v), 6) for k, v in found.items() if "weight" in k} == {
        "clean.weight": 0.3,
        "attacked.weight": 0.7,
    }
    assert {"eps", "step_size"} <= set(found)
    terms, after = part.apply(params, memory, views)
    value, metrics = total(terms)
    means = {k: float(s / c) for k, (s, c) in metrics.items()}
    np.testing.assert_allclose(value, 0.3 * means["clean"] + 0.7 * means["attacked"], rtol=1e-5)
    assert float(metrics["clean"][1]) == (PIXELS["labelled"] & PIXELS["valid"]).sum()
    assert jax.tree.structure(after) == jax.tree.structure(memory)


def test_the_attack_belongs_to_the_example():
    part = rslad("image", eps=0.2, step_size=0.05, steps=2)
    found = []
    for order in (np.arange(16), np.arange(16)[::-1]):
        views, seen = look({k: x[order] for k, x in PIXELS.items()})
        part.apply(*part.init(views), views)
        found.append(np.asarray(seen[-1][0])[order])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
