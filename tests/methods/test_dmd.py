"""DMD: the graph's edges, their prior, and which way knowledge flows along one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.methods import dmd
from tests.losses.formulas.common import softmax
from tests.small import compiled

pytestmark = pytest.mark.usefixtures("strict")
NAMES, ROWS = ("text", "audio", "image"), 6
PATHS = {m: (f"net.logits.{m}", f"net.features.{m}") for m in NAMES}
# to text from audio, to text from image, to audio from text …
EDGES = [(i, j) for j in NAMES for i in NAMES if i != j]
METHOD = dmd(PATHS, prior={("text", "audio"): 1.0, ("text", "image"): 0.5}, size=3, weight=0.5)


def first_outputs(features=4, **batch):
    draw = np.random.default_rng(0)
    out = {f"logits.{m}": jnp.asarray(draw.normal(size=(ROWS, 2)), jnp.float32) for m in NAMES}
    out |= {f"features.{m}": jnp.asarray(draw.normal(size=(ROWS, features)), jnp.float32) for m in NAMES}
    shown = {m: jnp.zeros((ROWS, 1)) for m in NAMES} | {"example_id": jnp.arange(ROWS)}
    return Outputs(shown | batch, {"net": out}, {}, StepContext(jnp.int32(0), jax.random.key(0)))


def reference(params, outputs, here, valid):
    """The two terms' values, and the edges, row by row."""
    p = jax.tree.map(np.asarray, params)
    z, h = ({m: np.asarray(outputs[PATHS[m][i]]) for m in NAMES} for i in (0, 1))
    prior = softmax(np.array([{("text", "audio"): 4.0, ("text", "image"): 2.0}.get(e, 0.0) for e in EDGES]))

    def linear(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    q = {m: np.concatenate([linear(p["Dense_0"], z[m]), linear(p["Dense_1"], h[m])], 1) for m in NAMES}
    values, edges = np.zeros(ROWS), np.zeros((ROWS, 6))
    for b in range(ROWS):
        there = [k for k, (i, j) in enumerate(EDGES) if here[i][b] and here[j][b]]
        score = [linear(p["Dense_2"], np.concatenate([q[j][b], q[i][b]]))[0] for i, j in (EDGES[k] for k in there)]
        if there:
            edges[b, there] = softmax(np.array(score) / 8)
        for k in there:
            i, j = EDGES[k]
            values[b] += (edges[b, k] + prior[k]) * np.abs(z[j][b] - z[i][b]).sum()
    whole = valid & here["text"] & here["audio"] & here["image"]
    return values, 10 * ((edges[whole].mean(0) - prior) ** 2).sum(), edges


@pytest.mark.full
@pytest.mark.parametrize("missing", [False, True])
def test_values(missing):
    absent = np.array([True, True, False, True, False, True])
    masks = {"valid": jnp.arange(ROWS) != 0}
    if missing:  # in row 4 two of three are missing: there is no edge
        masks |= {"present.audio": jnp.asarray(absent), "present.image": jnp.arange(ROWS) != 4}
    outputs = first_outputs(**masks)
    here = {m: np.asarray(masks.get(f"present.{m}", np.ones(ROWS, bool))) for m in NAMES}
    params, state = compiled(METHOD).init(outputs)
    assert hyperparams_of(state).keys() == {"sharpness", "regularization", "weight"}
    terms, after = METHOD.apply(params, state, outputs)
    values, away, edges = reference(params, outputs, here, np.asarray(masks["valid"]))
    assert np.ptp(edges[1]) > 1e-3  # they have something to say
    np.testing.assert_allclose(terms["logits"].values, values, rtol=1e-4)
    value, metrics = total(terms)
    rows = np.asarray(masks["valid"]) & (edges.sum(1) > 0)
    assert int(metrics["logits"][1]) == rows.sum() == (4 if missing else 5)
    np.testing.assert_allclose(metrics["prior"][0] / metrics["prior"][1], away, rtol=1e-3)
    np.testing.assert_allclose(value, 0.5 * (values[rows].mean() + away), rtol=1e-4)
    assert after is state


def slopes(prior, regularization=0.0, **batch):
    """Gradients of the first term by the parameters and by each modality's logits."""
    outputs = first_outputs(**batch)
    method = dmd(PATHS, prior=prior, size=3, sharpness=0.0, regularization=regularization, weight=1.0)
    params, state = compiled(method).init(outputs)

    def value(params, model_outputs):
        return total(
            compiled(method).apply(params, state, dataclasses.replace(outputs, by_model={"net": model_outputs}))[0]
        )[0]

    return jax.grad(value, (0, 1))(params, outputs.by_model["net"])


@pytest.mark.full
def test_knowledge_flows_along_the_edge_only():
    """With all edges alike, what text learns is by its own gap to the others; a prior makes audio learn more."""
    _, plain = slopes(None)
    _, told = slopes({("text", "audio"): 2.0})
    sign = np.sign(np.asarray(first_outputs()["net.logits.audio"] - first_outputs()["net.logits.text"]))
    prior = softmax(np.array([8.0 if e == ("text", "audio") else 0.0 for e in EDGES]))
    gap = np.asarray(first_outputs()["net.logits.audio"] - first_outputs()["net.logits.image"])
    expected = ((1 / 6 + prior[2]) * sign + (1 / 6 + prior[3]) * np.sign(gap)) / ROWS
    np.testing.assert_allclose(told["logits.audio"], expected, rtol=1e-4, atol=1e-7)
    assert np.abs(plain["logits.audio"]).max() < np.abs(told["logits.audio"]).max()


def test_the_edges_learn_from_both_terms():
    outputs = first_outputs()
    params, state = compiled(METHOD).init(outputs)
    for name in ("logits", "prior"):
        slope = jax.grad(lambda p, name=name: jnp.mean(compiled(METHOD).apply(p, state, outputs)[0][name].values))(
            params
        )
        assert all(float(jnp.abs(layer["kernel"]).max()) > 1e-6 for layer in slope.values())


def test_refusals():
    with pytest.raises(UserError, match="no modality 'audio'"):
        outputs = first_outputs()
        compiled(METHOD).init(
            dataclasses.replace(outputs, batch={k: x for k, x in outputs.batch.items() if k != "audio"})
        )
    with pytest.raises(UserError, match="1 branches"):
        dmd({"text": PATHS["text"]})
    with pytest.raises(UserError, match=r"prior has the unknown edge \('text', 'touch'\)"):
        dmd(PATHS, prior={("text", "touch"): 1.0})
    outputs = first_outputs()
    odd = outputs.add(net={**outputs.by_model["net"], "features.text": jnp.zeros((ROWS, 3))})
    with pytest.raises(UserError, match=r"dmd: features have shapes .*'text': \[6, 3\].*one width"):
        compiled(METHOD).init(odd)
