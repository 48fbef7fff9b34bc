"""What the table cannot say of the losses of regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.errors import UserError


@pytest.mark.parametrize("loss", [losses.mse, losses.l1, losses.huber])
def test_a_column_beside_a_vector_is_refused(loss):
    """[b, 1] and [b] would broadcast to [b, b]."""
    with pytest.raises(UserError, match=r"targets is float32\[3\], but d is \[1\] in predictions"):
        loss(jnp.ones((3, 1)), jnp.ones(3))


def test_leading_axes_are_kept_for_their_masks():
    x = jnp.ones((4, 5, 2))
    assert losses.mse(x, x).shape == losses.gaussian_kl((x, x), (x, x)).shape == (4, 5)
    assert losses.bounded_regression(x, x, x).shape == (4, 5)


def test_huber_between_square_and_line():
    x = jnp.array([0.3, -5.0])
    np.testing.assert_allclose(losses.huber(x, 0 * x, delta=1e3), losses.mse(x, 0 * x) / 2)
    np.testing.assert_allclose(losses.huber(x, 0 * x, delta=1e-6) / 1e-6, losses.l1(x, 0 * x), rtol=1e-5)


def test_a_student_better_than_its_teacher_is_left_alone():
    student, teacher, y = jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]), jnp.zeros(2)

    def gradient(margin):
        return jax.grad(lambda s: jnp.sum(losses.bounded_regression(s, teacher, y, margin=margin)))(student)

    assert gradient(0.0).tolist() == [0, 6] and gradient(3.5).tolist() == [2, 6]


def test_gaussian_kl_by_numbers():
    """Against the integral of p log(p / q)."""
    x = np.linspace(-12, 12, 20001)

    def density(mean, log_variance):
        return np.exp(-((x - mean) ** 2) / (2 * np.exp(log_variance)) - log_variance / 2) / np.sqrt(2 * np.pi)

    p, q = density(0.3, -0.4), density(-0.5, 0.7)
    ours = losses.gaussian_kl((jnp.array([-0.5]), jnp.array([0.7])), (jnp.array([0.3]), jnp.array([-0.4])))
    np.testing.assert_allclose(ours[0], np.sum(p * np.log(p / q)) * (x[1] - x[0]), rtol=1e-4)


@pytest.mark.parametrize("log_variance", [-60.0, -1e4])
def test_gaussian_kl_shows_the_way_back_from_far_away(log_variance):
    """A variance that is far too small is to grow, whatever exp gives."""
    one = jnp.ones(1)
    slope = jax.grad(lambda v: losses.gaussian_kl((one, v), (one, one))[0])(jnp.array([log_variance]))
    assert -np.inf < float(slope[0]) < -1e10
