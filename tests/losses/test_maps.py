"""What is particular to losses between feature maps and rankings: tuples of layers, dead channels, short lists."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import term
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError

DRAW = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(DRAW.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((draw(2, 4, 4, 3), draw(2, 2, 2, 5)), (draw(2, 4, 4, 3), draw(2, 2, 2, 4)), r"teacher maps have \[3, 4\]"),
        ((draw(2, 4, 4, 3),), (draw(2, 4, 4, 3),), "two or more"),
        (draw(2, 4, 4, 3), draw(2, 4, 4, 3), "expected a tuple of arrays"),
        ((draw(2, 4, 4, 3), draw(2, 3)), (draw(2, 4, 4, 3), draw(2, 3)), r"student\[1\] is float32\[2, 3\]"),
        ((draw(2, 4, 4, 3), draw(3, 2, 2, 5)), (draw(2, 4, 4, 3), draw(2, 2, 2, 5)), r"but b is 2 in student\[0\]"),
    ],
)
def test_layers_that_do_not_fit_are_refused_in_words(student, teacher, message):
    with pytest.raises(UserError, match=message):
        losses.fsp(student, teacher)


@pytest.mark.full
def test_fsp_of_three_layers_is_the_sum_of_its_pairs():
    """As a term: a tuple of paths is a tuple of layers, and the teacher's get no gradient."""
    maps = {"low": draw(3, 4, 4, 2), "middle": draw(3, 2, 2, 3), "high": draw(3, 1, 1, 4)}
    theirs = {k: draw(*x.shape) for k, x in maps.items()}

    def value(maps, theirs, *names):
        outputs = Outputs({}, {"student": maps, "teacher": theirs}, {}, StepContext(jnp.int32(0), jax.random.key(0)))
        paths: dict[str, Any] = {side: tuple(f"{side}.{n}" for n in names) for side in ("student", "teacher")}
        objective = term(losses.fsp, **paths)
        return jnp.mean(objective.apply(*objective.init(outputs), outputs)[0].values)

    whole = value(maps, theirs, "low", "middle", "high")
    np.testing.assert_allclose(
        whole, value(maps, theirs, "low", "middle") + value(maps, theirs, "middle", "high"), rtol=1e-6
    )
    gradients = jax.grad(value, (0, 1))(maps, theirs, "low", "middle", "high")
    assert all((g != 0).any() for g in jax.tree.leaves(gradients[0]))
    assert all((g == 0).all() for g in jax.tree.leaves(gradients[1]))


@pytest.mark.full
@pytest.mark.parametrize("kernel", ["poly", "linear", "gaussian"])
def test_nst_of_dead_channels_and_of_patterns_that_are_one(kernel):
    """After a ReLU a channel may be zero everywhere."""
    some = draw(2, 2, 3, 4).at[..., 1].set(0)
    one = jnp.broadcast_to(draw(2, 2, 3, 1), some.shape)
    for student, teacher in ((some, some * 2), (one, one * 3), (some * 0, one), (some, one * 0), (one * 0, one * 0)):
        value, slope = jax.value_and_grad(lambda s, t: jnp.sum(losses.nst(s, t, kernel=kernel)))(student, teacher)
        assert jnp.isfinite(value) and jnp.abs(slope).max() < 10
    assert (jax.grad(lambda s: jnp.sum(losses.nst(s, one, kernel=kernel)))(some)[..., 1] == 0).all()


@pytest.mark.full
def test_dark_rank_of_a_batch_shorter_than_the_list():
    """Three candidates of five places; a copy of the query is a neighbor, the query itself is none."""
    x, y = draw(4, 3), draw(4, 2)
    np.testing.assert_allclose(losses.dark_rank(x, y, length=5), losses.dark_rank(x, y, length=None))
    copies = jnp.concatenate([y, y])
    next_best = jnp.sort(jnp.linalg.norm(y[:, None] - y[None], axis=-1), 1)[:, 1]
    expected = jnp.tile(jnp.log1p(jnp.exp(-3 * next_best**3)), 2)
    np.testing.assert_allclose(losses.dark_rank(copies, copies, length=2), expected, rtol=1e-4)
