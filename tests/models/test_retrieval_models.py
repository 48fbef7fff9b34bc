"""Bi-encoders and cross-encoders: their scores are those of their embeddings and pairs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.models import Bert, BiEncoder, CrossEncoder, TextBag, TransformerConfig
from tests.small import advance, applied, distil, initialize, stepper

CTX = StepContext(0, jax.random.key(0), train=False)
DRAW = np.random.default_rng(0)


def batch(rows=6):
    found = {"example_id": jnp.arange(rows)}
    for side in ("query", "document", "partner.document"):
        found[f"{side}.ids"] = jnp.asarray(DRAW.integers(0, 9, (rows, 4)), jnp.int32)
        found[f"{side}.mask"] = jnp.asarray(np.arange(4) < DRAW.integers(1, 5, (rows, 1)))
    return found


BATCH = batch()
OTHERS = ("partner.document",)
PAIRS = Bert(9, TransformerConfig(embed_dim=4, num_layers=1, num_heads=2, mlp_dim=6), length=8)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_shared_encoder_has_one_set_of_variables_and_scores_its_embeddings(normalize):
    net = linen(
        BiEncoder(
            TextBag(9, 4), negatives=OTHERS, width=3, normalize=normalize, temperature=0.5, train_temperature=True
        )
    )
    variables = jax.jit(net.init)(jax.random.key(0), BATCH)
    assert {*variables["params"]} == {"query_encoder", "projection", "log_temperature"}
    (out, _) = applied(net, variables, BATCH, CTX)
    size = np.linalg.norm(out["query"], axis=1)
    assert np.allclose(size, 1, atol=1e-6) == normalize and float(out["temperature"]) == pytest.approx(0.5)
    np.testing.assert_allclose(out["score"], 2 * np.sum(out["query"] * out["document"], -1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out["scores"], np.concatenate([out["score"][:, None], out["negative_scores"]], 1))
    swapped = {"document": "partner.document", "partner.document": "document"}
    other = {
        k: BATCH[f"{swapped[n]}.{end}"] if (n := k.rpartition(".")[0]) in swapped else x
        for k, x in BATCH.items()
        for end in [k.rpartition(".")[2]]
    }
    (back, _) = applied(net, variables, other, CTX)
    np.testing.assert_allclose(back["scores"], out["scores"][:, ::-1], rtol=1e-6)


def test_two_encoders_without_projection_and_without_further_documents():
    net = linen(BiEncoder(TextBag(9, 4), TextBag(9, 4), width=None, normalize=False, negatives=OTHERS))
    seen = {k: x for k, x in BATCH.items() if not k.startswith("partner")}
    variables = jax.jit(net.init)(jax.random.key(0), seen)
    (out, _) = applied(net, variables, seen, CTX)
    assert {*variables["params"]} == {"query_encoder", "document_encoder"} and "scores" not in out
    np.testing.assert_array_equal(out["query"], out["features.query"])
    patched, _ = applied(net, variables, seen, CTX, {"document": 2 * out["document"]})
    np.testing.assert_allclose(patched["score"], 2 * out["score"], rtol=1e-6)


def test_an_absent_partner_is_zero_and_its_content_does_not_matter():
    net = linen(BiEncoder(TextBag(9, 4), negatives=OTHERS, width=3))
    seen = BATCH | {"partner.present.document": jnp.arange(6) != 2}
    variables = jax.jit(net.init)(jax.random.key(0), seen)
    (out, _) = applied(net, variables, seen, CTX)
    assert out["negative_scores"][2, 0] == 0 and np.all(np.asarray(out["negative_scores"])[[0, 1, 3, 4, 5]] != 0)


def test_a_cross_encoder_reads_both_texts_and_no_padding():
    net = linen(CrossEncoder(PAIRS, negatives=OTHERS))
    variables = jax.jit(net.init)(jax.random.key(0), BATCH)
    (out, _) = applied(net, variables, BATCH, CTX)
    assert out["score"].shape == (6,) and out["scores"].shape == (6, 2)
    for side in ("query", "document"):
        padded = jnp.where(BATCH[f"{side}.mask"], BATCH[f"{side}.ids"], 8)
        changed = jnp.where(BATCH[f"{side}.mask"], (BATCH[f"{side}.ids"] + 1) % 9, 0)
        (same, _), (other, _) = (applied(net, variables, BATCH | {f"{side}.ids": x}, CTX) for x in (padded, changed))
        np.testing.assert_allclose(same["score"], out["score"], atol=1e-6)
        assert np.abs(other["score"] - out["score"]).min() > 1e-4


def test_margins_of_a_cross_encoder_are_distilled():
    """Margin-MSE of partner documents falls from step to step, with a learned scale."""
    student = linen(BiEncoder(TextBag(9, 8), negatives=OTHERS, width=8, train_temperature=True))
    models = {"student": student, "teacher": linen(CrossEncoder(PAIRS, negatives=OTHERS))}
    paths: dict[str, Any] = {m: (f"{m}.score", f"{m}.negative_scores") for m in models}
    lists: dict[str, Any] = {m: f"{m}.scores" for m in models}
    objective = combine(margins=term(losses.margin_mse, **paths), lists=term(losses.listwise_kl, **lists))
    distillation = distil(models, objective, optimizer=optax.adam(0.03))
    state, frozen = initialize(distillation, BATCH)
    last, values, _ = advance(stepper(distillation), state, frozen, [BATCH] * 60)
    assert values[-1] < 0.2 * values[0]
    start, end = (s.params["student"]["log_temperature"] for s in (state, last))
    assert start != end
