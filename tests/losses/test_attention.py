"""What the losses between layers of transformers say of padding, of empty texts, and of layers that do not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.errors import UserError
from tests.losses.cases.attention import CASES, TOKENS
from tests.losses.harness import arrays, finite, zero

MASKED = {name: case for name, case in CASES.items() if case.inputs.get("mask") is TOKENS}


@pytest.mark.parametrize("case", MASKED.values(), ids=MASKED.keys())
def test_what_stands_at_padding_changes_nothing(case):
    """Also in a text of padding only, whose value is 0."""
    inputs = arrays(case.inputs)
    mask = inputs["mask"].at[1].set(False)

    def spoilt(x, value):
        where = mask[..., None] if x.ndim == 3 else mask[:, None, :, None] & mask[:, None, None, :]
        return jnp.where(where, x, value)

    @jax.jit
    def learn(value):
        def total(moving):
            values = case.loss(**moving, mask=mask, **case.hyper)
            return jnp.sum(values), values

        moving = {k: jax.tree.map(lambda x: spoilt(x, value), inputs[k]) for k in case.floating}
        return jax.value_and_grad(total, has_aux=True)(moving)

    first = learn(0.0)
    assert finite(first) and float(first[0][0]) > 0 and float(first[0][1][1]) == 0
    assert zero([g[1] for g in jax.tree.leaves(first[1])])
    for value in (7.0, jnp.nan, -jnp.inf):
        jax.tree.map(np.testing.assert_array_equal, learn(value), first)


def test_probabilities_and_scores_say_the_same_of_attention():
    scores = arrays(CASES["attention_kl of scores"].inputs)
    mask = scores.pop("mask")
    after: dict[str, Any] = {k: jax.nn.softmax(x, -1) for k, x in scores.items()}
    for chosen in (mask, None):
        ours = losses.attention_kl(**after, mask=chosen)
        np.testing.assert_allclose(ours, losses.attention_kl(**scores, mask=chosen, given="scores"), rtol=1e-5)


def test_a_student_that_gives_a_key_nothing_has_a_finite_loss():
    """A softmax underflows in float32 at gaps from 87 on; below, the gradient through it is q − p."""
    teacher = jnp.array([[[[0.5, 0.5, 0.0]]]])

    @jax.jit
    @jax.vmap
    def learn(gap):
        scores = gap * jnp.array([[[[1.0, 0.0, -1.0]]]])
        return jax.value_and_grad(lambda x: losses.attention_kl(jax.nn.softmax(x, -1), teacher)[0])(scores)

    gaps = jnp.array([20.0, 50.0, 85.0, 88.0, 95.0, 120.0, 1e4])
    values, gradients = learn(gaps)
    assert finite((values, gradients))
    np.testing.assert_allclose(values[:3], gaps[:3] / 2 - jnp.log(2), rtol=1e-5)  # ½ log(½ / 1) + ½ log(½ / exp(−gap))
    np.testing.assert_allclose(gradients[:3, 0, 0, 0], jnp.broadcast_to(jnp.array([0.5, -0.5, 0]), (3, 3)), atol=1e-5)
    assert all(40 < float(v) < 50 for v in values[3:])


@pytest.mark.parametrize("removed", ["student", "teacher"])
def test_a_score_at_minus_infinity(removed):
    """In both it is removed, in the student only it makes the value +inf, and nothing is ever NaN."""
    scores = arrays(CASES["attention_kl of scores"].inputs) | {"mask": None}
    gone = {k: scores[k].at[..., -1].set(-jnp.inf) for k in ("student", "teacher")}

    @jax.jit
    def learn(both):
        def total(both):
            return jnp.sum(losses.attention_kl(**both, given="scores"))

        return jax.value_and_grad(total)(both)

    value, gradients = learn(gone)
    shorter, wanted = learn({k: scores[k][..., :-1] for k in gone})
    np.testing.assert_allclose(value, shorter, rtol=1e-5)
    assert zero({k: g[..., -1] for k, g in gradients.items()})
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g[..., :-1], w, atol=1e-6), gradients, wanted)
    value, gradients = learn({k: gone[k] if k == removed else scores[k] for k in gone})
    assert bool(jnp.isinf(value)) == (removed == "student")
    assert not any(bool(jnp.isnan(g).any()) for g in gradients.values())


def test_layers_that_do_not_fit_are_refused_by_name():
    x, tokens = jnp.ones((2, 3, 4)), jnp.ones((2, 3), bool)
    with pytest.raises(UserError, match="patient: student has 2 arrays, teacher 1; expected the same number"):
        losses.patient((x, x), (x,))
    with pytest.raises(UserError, match="heads is 3; expected a divisor of the student's width 4"):
        losses.minilm_relations((x,), (x,), heads=3)
    with pytest.raises(UserError, match=r"teacher\[1\] is float32\[2, 3, 5\], but e is 4 in student\[1\]"):
        losses.token_fsp((x, x), (x, jnp.ones((2, 3, 5))))
    scores = jnp.ones((2, 1, 4, 3))
    with pytest.raises(UserError, match=r"attention_mse: mask is bool\[2, 3\], but there are 4 queries; expected"):
        losses.attention_mse(scores, scores, mask=tokens)
    assert losses.attention_mse(scores, scores, mask=jnp.ones((2, 4, 3), bool)).shape == (2,)
