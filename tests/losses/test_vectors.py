"""What the table cannot say of the losses between vectors of features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses

DRAW = np.random.default_rng(3)


@pytest.mark.full
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
@pytest.mark.parametrize("loss", [losses.pearson, losses.cka])
def test_a_channel_that_does_not_vary_gets_no_gradient(loss, constant):
    """A dead ReLU, or a constant whose mean rounds; the other channels learn."""
    student, teacher = jnp.asarray(DRAW.normal(size=(2, 7, 3)), jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda s: jnp.mean(loss(s, teacher))))(student.at[:, 1].set(constant))
    assert np.isfinite(value) and bool((gradient[:, 1] == 0).all())
    assert bool((gradient[:, 0] != 0).all()) and float(jnp.abs(gradient).max()) < 1


def test_pearson_is_one_minus_the_correlation():
    student, teacher = jnp.asarray(DRAW.normal(size=(2, 50, 4, 3)), jnp.float32)
    rho = [np.corrcoef(np.ravel(student[..., c]), np.ravel(teacher[..., c]))[0, 1] for c in range(3)]
    np.testing.assert_allclose(jnp.mean(losses.pearson(student, teacher)) * 200 / 199, 1 - np.mean(rho), rtol=1e-4)
    np.testing.assert_allclose(losses.pearson(5 * student - 2, student), 0, atol=1e-6)


def test_cka_does_not_see_rotation_scale_and_place():
    x = jnp.asarray(DRAW.normal(size=(9, 4)), jnp.float32)
    rotation = jnp.asarray(np.linalg.qr(DRAW.normal(size=(4, 4)))[0], jnp.float32)
    np.testing.assert_allclose(losses.cka(3 * x @ rotation + 7, x), 0, atol=1e-5)
    assert float(losses.cka(x * jnp.array([1.0, 5.0, 1.0, 1.0]), x)) > 0.1


def test_pad_learns_the_variance():
    """The value is least where σ² + ε is the mean squared difference."""
    gaps = jnp.array([0.5, -0.5, 0.5, -0.5])[:, None]
    slope = jax.grad(lambda v: jnp.mean(losses.pad_l2(gaps, 0 * gaps, jnp.broadcast_to(v, gaps.shape))))
    assert abs(float(slope(jnp.log(0.25)))) < 1e-5
    assert float(slope(jnp.log(0.1))) < 0 < float(slope(jnp.log(0.5)))
