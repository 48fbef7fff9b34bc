"""Operations by hand, and against XLA's own count where it counts right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.training.operations import flops

X, Y = jnp.ones((4, 5)), jnp.ones((5, 6))


def xla(function, *arguments):
    costs = jax.jit(function).lower(*arguments).compile().cost_analysis()
    assert costs is not None
    return costs["flops"]


def test_products_and_their_gradients():
    assert flops(lambda x, y: x @ y, X, Y) == 2 * 4 * 5 * 6
    batched = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
    assert flops(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), *batched) == 3 * 2 * 4 * 5 * 6
    # backward: one product for each side
    both = jax.value_and_grad(lambda x, y: jnp.sum(jnp.sin(x @ y)), (0, 1))
    assert flops(both, X, Y) == 3 * 2 * 4 * 5 * 6


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups, padding, stride):
    image, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4 // groups, 6))

    def conv(image, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (stride, stride), padding, dimension_numbers=dimensions, feature_group_count=groups
        )

    size = 8 + 2 * (padding == "SAME")
    inside = np.zeros(size)
    inside[size // 2 - 4 :][:8] = 1
    if padding == "SAME" and stride == 2:  # then there is padding at the end only
        inside = inside[1:]
    reached = sum(inside[i : i + 3].sum() for i in range(0, len(inside) - 2, stride))
    forward = flops(conv, image, kernel)
    assert forward == 2 * (2 * 6 * 4 // groups) * reached**2
    backward = jax.grad(lambda i, k: jnp.sum(conv(i, k) ** 2), (0, 1))
    assert flops(backward, image, kernel) == 3 * forward
    if groups == 1:  # of groups XLA makes plain convolutions with zeros in them
        assert forward == pytest.approx(xla(conv, image, kernel), rel=0.01)


def test_loops_branches_and_what_nobody_reads():
    once = 2 * 5 * 5 * 5
    square = jnp.ones((5, 5))

    def looped(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, None, 7)[0]

    assert flops(looped, square) == 7 * once
    assert flops(jax.jit(jax.checkpoint(looped)), square) == 7 * once
    assert flops(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), square) == 2 * once

    def dead(x):
        x @ x @ x
        return x @ x

    assert flops(dead, square) == once
