"""Chains, and texts in unlike vocabularies: what holds beside the contract."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import crf, losses
from mmkd_jax.core.model import StepContext, plain
from mmkd_jax.core.objective import term, total
from mmkd_jax.core.outputs import forward
from tests.losses.formulas.structure import labelings, marginals
from tests.losses.harness import finite

draw = np.random.default_rng(0)
MASK = np.array([[True, True, True, True], [False, True, False, True], [False, False, False, False]])
EMISSIONS, TRANSITIONS = draw.normal(size=(3, 4, 3)), draw.normal(size=(3, 3))


@pytest.fixture
def wide():
    with jax.enable_x64(True):
        yield


def given(*arrays):
    return tuple(jnp.asarray(x) for x in arrays)


def test_marginals_are_those_of_all_labellings_and_the_slope_of_log_z(wide):
    """Also where the mask has gaps: the chain goes over them."""
    e, a, mask = given(EMISSIONS, TRANSITIONS, MASK)
    ours = jnp.exp(jax.jit(crf.log_marginals)(e, a, mask))
    log_z, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda e, m: crf.log_partition(e[None], a, m[None])[0])))(
        e, mask
    )
    for i in (0, 1):
        there = MASK[i]
        np.testing.assert_allclose(ours[i][there], marginals(EMISSIONS[i][there], TRANSITIONS), rtol=1e-10)
        scores = labelings(EMISSIONS[i][there], TRANSITIONS)[1]
        np.testing.assert_allclose(log_z[i], np.log(np.exp(scores).sum()), rtol=1e-10)
    np.testing.assert_allclose(slope, np.where(MASK[..., None], ours, 0), atol=1e-12)


def test_likelihoods_add_up_to_one(wide):
    e, a = given(EMISSIONS[:1, :3], TRANSITIONS)
    paths = jnp.asarray(labelings(EMISSIONS[0, :3], TRANSITIONS)[0])
    values = losses.crf_nll(jnp.repeat(e, len(paths), 0), a, paths)
    np.testing.assert_allclose(jnp.sum(jnp.exp(-values)), 1, rtol=1e-10)


def test_without_transitions_each_token_stands_alone(wide):
    s, t, mask = given(EMISSIONS, draw.normal(size=EMISSIONS.shape), MASK)
    alone = jnp.full((3, 3), 0.7)
    chain = losses.crf_marginal_kl((s, alone), (t, alone), mask=mask, temperature=2.0)
    tokens = jnp.sum(jnp.where(mask, losses.kl(s, t, temperature=2.0), 0), 1)
    np.testing.assert_allclose(chain, tokens, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_a_forbidden_pair_has_no_probability_and_no_gradient():
    e, a, mask = (jnp.asarray(x, jnp.float32) for x in (EMISSIONS, TRANSITIONS, MASK))
    mask = mask.astype(bool)
    barred = a.at[:, 2].set(-jnp.inf)  # the third label can only come first
    p = jnp.exp(crf.log_marginals(e, barred, mask))
    assert bool((p[0, 1:, 2] == 0).all()) and float(p[0, 0, 2]) > 0

    def value(e, barred, against):
        return jnp.sum(losses.crf_marginal_kl((e, barred), (e * 2, against), mask=mask))

    slopes = jax.grad(value, (0, 1))(e, barred, barred)
    assert finite(slopes) and bool((slopes[1][:, 2] == 0).all())
    assert float(value(e, barred, a)) == np.inf and finite(jax.grad(value, (0, 1))(e, a, barred))
    assert finite(losses.crf_nll(e, barred, jnp.full((3, 4), 2), mask=mask))


def test_the_order_and_the_names_of_words_do_not_matter():
    s, t = (jnp.asarray(draw.normal(size=(2, 3, 5)), jnp.float32) for _ in range(2))
    value = losses.uld(s, t)
    order = draw.permutation(5)
    never = jnp.full((2, 3, 4), -jnp.inf)
    for other in (s[..., order], jnp.concatenate([s, never], -1)):
        np.testing.assert_allclose(losses.uld(other, t), value, rtol=1e-5)
        np.testing.assert_allclose(losses.uld(t, other), value, rtol=1e-5)
    np.testing.assert_allclose(losses.uld(s[..., order], s), 0, atol=1e-6)


@pytest.mark.parametrize("loss", [losses.kl, losses.cross_entropy])
def test_losses_of_logits_are_losses_of_tokens_under_a_mask(loss):
    """Sequence labeling: `where` names the mask of tokens, and masks of texts beside it."""
    batch = {
        "logits": jnp.asarray(draw.normal(size=(3, 4, 5)), jnp.float32),
        "answers": jnp.asarray(draw.normal(size=(3, 4, 5)), jnp.float32),
        "labels": jnp.asarray(draw.integers(0, 5, (3, 4))),
        "text.mask": jnp.asarray(MASK),
        "labelled": jnp.array([True, False, True]),
        "valid": jnp.array([True, True, True]),
    }
    names = ("student", "teacher") if loss is losses.kl else ("logits", "labels")
    second = "answers" if loss is losses.kl else "labels"
    paths: dict[str, Any] = dict(zip(names, ("student.logits", "batch." + second), strict=True))
    outputs, _ = forward({"student": plain(lambda params, batch: batch)}, {"student": {"params": {}}}, batch, START)
    part = term(loss, where=("text.mask", "labelled"), **paths)
    made, _ = part.apply(*part.init(outputs), outputs)
    kept = MASK & np.array([[True], [False], [True]])
    value, metrics = total({"tokens": made})
    tokens = loss(batch["logits"][kept], batch[second][kept])
    np.testing.assert_allclose(value, tokens.mean(), rtol=1e-6)
    assert float(metrics["tokens"][1]) == kept.sum() == 4


START = StepContext(jnp.int32(0), jax.random.key(0))
