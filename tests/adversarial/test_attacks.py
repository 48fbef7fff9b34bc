"""Attacks against functions whose worst input is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.adversarial.attacks import fgsm, pgd, row_noise

SLOPE = jnp.array([[3.0, -4.0], [0.0, 2.0]])  # norms 5 and 2
X = jnp.array([[0.5, 0.5], [0.2, 0.7]])


def linear(x):
    return jnp.sum(SLOPE * x, -1)


def hill(x):
    """Its top is at (1, 1); the gradient turns on the way."""
    return -jnp.sum((x - 1) ** 2 * jnp.array([[1.0, 5.0]]), -1)


def test_linf_ends_in_the_corner_and_keeps_what_has_no_slope():
    out = pgd(linear, X, eps=0.1, step_size=0.03, steps=10)
    np.testing.assert_allclose(out, X + 0.1 * jnp.sign(SLOPE), atol=1e-6)
    np.testing.assert_allclose(fgsm(linear, X, eps=0.1), out, atol=1e-6)


def test_l2_goes_along_the_gradient():
    unit = SLOPE / jnp.array([[5.0], [2.0]])
    np.testing.assert_allclose(pgd(linear, X, eps=1.0, step_size=0.25, steps=1, norm="l2"), X + 0.25 * unit, atol=1e-6)
    np.testing.assert_allclose(pgd(linear, X, eps=0.6, step_size=0.25, steps=5, norm="l2"), X + 0.6 * unit, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ball_the_box_and_the_start(norm):
    start = 5 * jax.random.normal(jax.random.key(0), X.shape)
    attack = jax.jit(
        lambda eps: pgd(hill, X, eps=eps, step_size=0.1, steps=8, norm=norm, start=start, low=0.0, high=0.8)
    )
    order = jnp.inf if norm == "linf" else 2
    before = hill(X)
    for eps in (0.0, 0.05, 0.3):
        out = attack(eps)
        assert bool((jnp.linalg.norm(out - X, order, axis=-1) <= eps + 1e-6).all())
        assert bool((out >= 0).all() and (out <= 0.8 + 1e-6).all())
        assert bool((hill(out) >= before - 1e-6).all())
    first = pgd(hill, X, eps=0.3, step_size=0.1, steps=0, norm=norm, start=start)
    size = jnp.linalg.norm(first - X, order, axis=-1)
    np.testing.assert_allclose(size, 0.3, rtol=1e-5)  # projected from outside onto the ball
    assert float(jnp.abs(attack(0.3) - X).max()) > 0.05


def test_more_steps_find_a_worse_input():
    values = [hill(pgd(hill, X, eps=0.4, step_size=0.08, steps=n)) for n in (0, 1, 3, 10)]
    assert all(bool((b > a).all()) for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_without_a_gradient_nothing_moves(norm, dtype):
    x = X.astype(dtype)
    out = pgd(lambda x: 0 * jnp.sum(x, -1), x, eps=0.5, step_size=0.1, steps=3, norm=norm)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_row_is_attacked_for_itself(norm):
    attack = jax.jit(lambda x: pgd(hill, x, eps=0.3, step_size=0.1, steps=4, norm=norm))
    other = X.at[1].set(jnp.array([-3.0, 7.0]))
    np.testing.assert_array_equal(attack(X)[0], attack(other)[0])
    assert float(jnp.abs(attack(X)[1] - attack(other)[1]).max()) > 1


def test_no_gradient_leaves_and_radii_may_be_a_population(strict):
    gradient = jax.grad(lambda x: jnp.sum(pgd(hill, x, eps=0.3, step_size=0.1, steps=2) ** 2))(X)
    np.testing.assert_array_equal(gradient, 0)
    radii = jnp.array([0.0, 0.1, 0.2])
    together = jax.vmap(lambda eps: pgd(linear, X, eps=eps, step_size=eps, steps=2))(radii)
    np.testing.assert_allclose(together, np.asarray(X) + np.asarray(radii)[:, None, None] * np.sign(SLOPE), atol=1e-6)


def test_noise_belongs_to_the_example():
    key, ids = jax.random.key(1), jnp.array([7, 3, 9])
    noise = row_noise(key, ids, (2, 2))
    np.testing.assert_array_equal(row_noise(key, ids[::-1], (2, 2)), noise[::-1])
    assert len(np.unique(noise)) == 12
    many = row_noise(key, jnp.arange(2000), (4,))
    np.testing.assert_allclose([many.mean(), many.std()], [0, 1], atol=0.05)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_lies_outside_of_the_range_stays_in_the_ball(norm):
    far = jnp.array([[-3.0, 0.5], [0.5, 7.0]])
    out = pgd(linear, far, eps=0.5, step_size=0.2, steps=6, norm=norm, low=0.0, high=1.0)
    moved = np.asarray(out - far)
    assert np.abs(moved).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(fgsm(linear, far, eps=0.5, low=0.0, high=1.0), far + jnp.array([[0.5, -0.5], [0, 0]]))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e25])
def test_an_l2_step_has_its_length_however_large_the_gradient_is(scale):
    out = pgd(lambda x: scale * linear(x), X, eps=1.0, step_size=0.25, steps=1, norm="l2")
    np.testing.assert_allclose(out, X + 0.25 * SLOPE / jnp.array([[5.0], [2.0]]), atol=1e-6)
    half = pgd(lambda x: 1e-4 * linear(x), X.astype(jnp.float16), eps=1.0, step_size=0.25, steps=1, norm="l2")
    np.testing.assert_allclose(np.linalg.norm(np.asarray(half - X, np.float32), axis=1), 0.25, atol=2e-3)
