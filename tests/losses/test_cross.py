"""What the losses of cross-modal methods are in special cases; Kendall's τ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau

from mmkd_jax import losses
from mmkd_jax.losses._kendall import kendall

draw = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["all unlike", "ties", "integers"])
def test_kendall_is_scipys(kind, strict):
    a, b = draw.normal(size=(2, 40, 7))
    if kind == "ties":
        a, b = np.round(a), np.round(2 * b) / 2
    if kind == "integers":
        a, b = (np.argsort(x, 1) // 2 for x in (a, b))
    expected = [kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    ours = jax.jit(kendall)(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_kendall_of_rows_that_rank_nothing_and_of_removed_classes():
    a = jnp.array([[1.0, 1.0, 1.0], [-jnp.inf, 2.0, 1.0], [-jnp.inf, -jnp.inf, 0.0]])
    b = jnp.array([[1.0, 2.0, 3.0], [-jnp.inf, 1.0, 2.0], [-jnp.inf, -jnp.inf, 5.0]])
    np.testing.assert_allclose(kendall(a, b), [0, 1 / 3, 1], atol=1e-6)
    assert not np.any(jax.grad(lambda a: kendall(a, b).sum())(a))


def test_the_other_classes_are_the_second_part_of_dkd():
    s, t = jnp.asarray(draw.normal(size=(2, 6, 5)), jnp.float32)
    y = jnp.array([0, 1, 2, 3, 4, 0])
    part = losses.dkd(s, t, y, alpha=0.0, beta=1.0, temperature=2.0)
    np.testing.assert_allclose(losses.non_target_kl(s, t, y, temperature=2.0), part, rtol=1e-5)
    # the label's own logit is not looked at
    for target in ("removed", "zero"):
        moved = s.at[jnp.arange(6), y].add(3.0)
        one, other = (losses.non_target_kl(x, t, y, target=target) for x in (s, moved))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_mmanet_of_a_teacher_that_is_equally_unsure_is_sp():
    s, t = (jnp.asarray(draw.normal(size=(6, d)), jnp.float32) for d in (4, 3))
    equally = jnp.tile(jnp.array([[0.3, 1.0]]), (6, 1))
    for weighed in ("rows", "columns"):
        ours = losses.mmanet(s, (t, equally), weighed=weighed)
        np.testing.assert_allclose(ours, 6 * losses.sp(s, t), rtol=1e-5)


def test_mmanet_heeds_the_rows_near_the_boundary():
    s, t = (jnp.asarray(draw.normal(size=(4, d)), jnp.float32) for d in (4, 3))
    logits = jnp.array([[9.0, 0.0], [0.1, 0.0], [8.0, 0.0], [2.0, 0.0]])
    ratio = losses.mmanet(s, (t, logits)) / losses.sp(s, t)
    assert np.argsort(ratio).tolist() == [0, 2, 3, 1]
    np.testing.assert_allclose(jnp.mean(ratio), 4, rtol=1e-5)
    assert not np.any(losses.mmanet(s, (t, 1e4 * logits + 1e3)))  # certain of all: nothing to say


def test_ccl_of_rows_that_are_each_a_class_holds_info_nce():
    s, t = (jnp.asarray(draw.normal(size=(5, 3)), jnp.float32) for _ in "st")
    y, tau = jnp.arange(5), 0.5
    cosines = np.asarray(losses.ccl(s, t, y, temperature=tau) - losses.info_nce(s, t, temperature=tau))
    z = (
        np.asarray(s / jnp.linalg.norm(s, axis=1, keepdims=True))
        @ np.asarray(t / jnp.linalg.norm(t, axis=1)[:, None]).T
    )
    p = np.exp(z / tau) / np.exp(z / tau).sum(1, keepdims=True)
    np.testing.assert_allclose(cosines, [np.mean(-np.log(1 - np.delete(p[i], i))) for i in y], rtol=1e-4)


def test_ccl_knows_classes_by_what_is_alike():
    s, t = (jnp.asarray(draw.normal(size=(5, 3)), jnp.float32) for _ in "st")
    one, renamed = jnp.array([0, 1, 0, 2, 1]), jnp.array([7, 3, 7, 0, 3])
    value = losses.ccl(s, t, one)
    np.testing.assert_allclose(losses.ccl(5 * s, 0.1 * t, renamed), value, rtol=1e-5)
    assert np.abs(losses.ccl(s, t, jnp.array([0, 0, 1, 2, 1])) - value).max() > 1e-2


@pytest.mark.slow
def test_ccl_of_a_wrong_partner_that_is_nearly_certain():
    """1 − p is below float32's rounding of 1: its logarithm is not."""
    s, t, y = jnp.eye(2), jnp.eye(2)[::-1], jnp.array([0, 1])
    value, slope = jax.value_and_grad(lambda s: losses.ccl(s, t, y, temperature=0.02).mean())(s + 0.1)
    with jax.enable_x64(True):
        exact = losses.ccl(jnp.asarray(np.eye(2) + 0.1), jnp.asarray(np.eye(2)[::-1]), y, temperature=0.02).mean()
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    assert float(value) > 50 and np.isfinite(slope).all() and np.abs(slope).max() > 1
