"""Losses between the layers of transformers, through `term`, on a teacher and a student of unlike widths."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.core.objective import combine, term, total
from mmkd_jax.core.outputs import forward
from mmkd_jax.models import Multimodal, TextTransformer
from mmkd_jax.nn.connectors import Each, Linear

WIDE, LENGTH = 8, 7
TOKENS = {"mask": "batch.text.mask"}


def transformer(embed_dim, num_heads):
    encoder = TextTransformer(9, embed_dim, num_heads, num_layers=1, length=LENGTH)
    return linen(Multimodal({"text": encoder}, classes=3))


MODELS = {"teacher": transformer(WIDE, 2), "student": transformer(4, 2), "many heads": transformer(WIDE, 4)}


def paths(*names, teacher="teacher") -> dict[str, Any]:
    """One output of both models, or a tuple of several."""
    one = {m: tuple(f"{v}.{n}" for n in names) for m, v in (("student", "student"), ("teacher", teacher))}
    return one if len(names) > 1 else {m: p[0] for m, p in one.items()}


def averaged(x):
    return x.mean(1, keepdims=True)


TERMS = {
    "scores": term(losses.attention_mse, **paths("scores.text.0"), **TOKENS),
    "attentions": term(losses.attention_kl, **paths("attentions.text.0"), **TOKENS),
    "attentions of scores": term(losses.attention_kl, **paths("scores.text.0"), **TOKENS, given="scores"),
    "attentions of other heads": term(
        losses.attention_kl,
        **paths("attentions.text.0", teacher="many heads"),
        **TOKENS,
        connect={"student": averaged, "teacher": averaged},
    ),
    "relations": term(
        losses.minilm_relations, **paths("queries.text.0", "keys.text.0", "values.text.0"), **TOKENS, heads=4
    ),
    "hidden": term(losses.hidden_mse, **paths("hidden.text.1"), where="text.mask", connect={"student": Linear(WIDE)}),
    "patient": term(
        losses.patient,
        **paths("hidden.text.0", "hidden.text.1"),
        where="present.text",
        connect={"student": Each((Linear(WIDE), Linear(WIDE)))},
    ),
    "fsp": term(
        losses.token_fsp,
        **paths("hidden.text.0", "hidden.text.1"),
        **TOKENS,
        connect={"student": Each((Linear(WIDE), Linear(WIDE)))},
    ),
    "nst": term(losses.token_nst, **paths("hidden.text.0", "hidden.text.1"), **TOKENS),
}
OBJECTIVE = combine(**TERMS)


def texts(padding=7, length=5):
    """Texts of some length, the last one empty; a padding token, and as much padding as fits."""
    mask = np.arange(length)[None] < np.array([5, 3, 1, 0])[:, None]
    ids = np.random.default_rng(0).integers(1, 9, (4, LENGTH))[:, :length]
    ids = np.where(mask, ids, padding).astype(np.int32)
    batch = {"text.ids": ids, "text.mask": mask, "present.text": mask.any(1), "example_id": np.arange(4)}
    return {k: jnp.asarray(x) for k, x in batch.items()}


@pytest.fixture(scope="module")
def variables():
    return {n: jax.jit(m.init)(jax.random.key(i), texts()) for i, (n, m) in enumerate(MODELS.items())}


def first_outputs(variables, batch):
    return forward(MODELS, variables, batch, StepContext(jnp.int32(0), jax.random.key(0)))[0]


@pytest.mark.slow
def test_attention_losses_teach_through_terms_and_padding_changes_nothing(variables, strict):
    trained, state = jax.jit(lambda: OBJECTIVE.init(first_outputs(variables, texts())))()

    def means(params, batch):
        terms, _ = OBJECTIVE.apply(trained, state, first_outputs(params, batch))
        found = {n: s / count for n, (s, count) in total(terms)[1].items()}
        return found, found

    @jax.jit
    def learned(batch):
        """Each term's gradients by the variables of each model, and its mean."""
        return jax.jacrev(means, has_aux=True)(variables, batch)

    first = learned(texts())
    for name, slopes in first[0].items():
        assert np.isfinite(first[1][name]) and first[1][name] > 1e-4, name
        size: dict[str, float] = {
            m: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(g)) for m, g in slopes.items()
        }
        assert np.isfinite(size["student"]) and size["student"] > 1e-5, name
        assert size["teacher"] == size["many heads"] == 0, name
    for other in (texts(padding=2), texts(length=LENGTH)):
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
        jax.tree.map(close, learned(other), first)
