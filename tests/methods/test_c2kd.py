"""C2KD: proxies, which rows they pass on to each other, and who follows whom."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau

from mmkd_jax.core.hyperparams import hyperparams_of, with_hyperparams
from mmkd_jax.core.objective import total
from mmkd_jax.methods import c2kd
from tests.losses.formulas.common import divergence, softmax
from tests.losses.formulas.cross import non_target_kl
from tests.methods.cross import first_outputs
from tests.small import compiled

pytestmark = pytest.mark.usefixtures("strict")
SIDES = {"student": "audio_net", "teacher": "image_net"}
PATHS: dict[str, Any] = {s: f"{m}.embedding" for s, m in SIDES.items()}
METHOD = c2kd(**PATHS, threshold=0.3, target="zero")


def proxy(layers, x, valid):
    layers = jax.tree.map(np.asarray, layers)
    x = np.asarray(x) @ layers["Linear_0"]["Dense_0"]["kernel"]
    x = (x - x[valid].mean(0)) / np.sqrt(x[valid].var(0) + 1e-5)
    return np.where(x > 0, x, 0.1 * x) @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"]


@pytest.mark.full
def test_values():
    outputs = first_outputs()
    params, state = compiled(METHOD).init(outputs)
    terms, after = compiled(METHOD).apply(params, state, outputs)
    valid, y = (np.asarray(outputs.batch[k]) for k in ("valid", "label"))
    own = {s: np.asarray(outputs[f"{m}.logits"]) for s, m in SIDES.items()}
    proxies = {s: proxy(params[s], outputs[f"{m}.embedding"], valid) for s, m in SIDES.items()}
    tau = np.array([kendalltau(a, b).statistic for a, b in zip(*proxies.values(), strict=True)])
    assert 0 < (tau > 0.3).sum() < 16
    for side, other in (("student", "teacher"), ("teacher", "student")):
        p, q = softmax(own[side]), softmax(proxies[side])
        across = np.where(tau > 0.3, non_target_kl(proxies[side], proxies[other], y, target="zero"), 0)
        for name, values in {"learn": divergence(p, q), "follow": divergence(q, p), "across": across}.items():
            np.testing.assert_allclose(terms[side][name].values, values, rtol=1e-3, atol=1e-5, err_msg=name)
    _, metrics = total(terms)
    assert int(metrics["student.across"][1]) == valid.sum()  # a mean over all rows, as in the authors' code
    for x, y in zip(jax.tree.leaves(state["state"]), jax.tree.leaves(after["state"]), strict=True):
        assert not np.array_equal(x, y)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_the_threshold_is_a_number():
    outputs = first_outputs()
    params, state = compiled(METHOD).init(outputs)
    assert {"threshold", "student.learn.weight", "teacher.across.weight"} <= hyperparams_of(state).keys()
    none = compiled(METHOD).apply(params, with_hyperparams(state, {"threshold": 1.0}), outputs)[0]
    assert not np.any(none["student"]["across"].values) and not np.any(none["teacher"]["across"].values)
    every = compiled(METHOD).apply(params, with_hyperparams(state, {"threshold": -1.5}), outputs)[0]
    assert np.all(every["student"]["across"].values > 0)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["learn", "follow", "across"])
def test_gradients(part):
    """A proxy learns from its model and from the other's proxy, and the model from its proxy."""
    outputs = first_outputs()
    params, state = compiled(METHOD).init(outputs)
    state = with_hyperparams(state, {"threshold": -1.5})

    @jax.jit
    def value(params, model_outputs):
        terms, _ = compiled(METHOD).apply(params, state, dataclasses.replace(outputs, by_model=model_outputs))
        return jnp.mean(terms["student"][part].values)

    to_params, to_outputs = jax.grad(value, (0, 1))(params, outputs.by_model)

    def size(tree):
        return max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))

    assert (size(to_params["student"]) > 1e-4) == (part != "follow")
    assert size(to_params["teacher"]) == 0
    assert (size(to_outputs["audio_net"]["logits"]) > 1e-4) == (part == "follow")
    assert (size(to_outputs["audio_net"]["embedding"]) > 1e-4) == (part != "follow")  # through its proxy
    assert size(to_outputs["image_net"]) == 0
