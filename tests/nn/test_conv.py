from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.convolution import convolve
from mmkd_jax.nn.conv import Conv

CASES = [
    ((5,), (3,), 1, "SAME"),
    ((8,), (4,), 2, "VALID"),
    ((6, 7), (3, 3), 2, "SAME"),
    ((6, 7), (1, 1), 1, "SAME"),
    ((5, 4), (3, 2), 2, ((1, 0), (2, 1))),
    ((3, 4, 5), (2, 3, 1), 1, "SAME"),
]


@pytest.mark.full
@pytest.mark.parametrize(("size", "window", "strides", "padding"), CASES)
def test_value_and_gradients_are_those_of_flax_and_of_numpy(size, window, strides, padding):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    ours = Conv(4, window, strides, padding)
    theirs = nn.Conv(4, window, strides, padding, precision="highest")
    variables: Any = jax.jit(ours.init)(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, variables, jax.jit(theirs.init)(jax.random.key(1), x))
    variables["params"]["bias"] += jnp.arange(4.0)

    @partial(jax.jit, static_argnums=0)
    def of(module, variables, x):
        out, pull = jax.vjp(module.apply, variables, x)
        return out, pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype).reshape(out.shape)))

    found, expected = (of(module, variables, x) for module in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    if padding == "SAME":  # one place in the middle, by hand
        pixels, kernel = np.asarray(x), np.asarray(variables["params"]["kernel"])
        middle = tuple(n // 2 for n in size)
        at = jax.lax.padtype_to_pads(size, window, (strides,) * len(size), padding)
        place = tuple((m + low) // strides for m, (low, _) in zip(middle, at, strict=True))
        total = np.arange(4.0)
        for offset in np.ndindex(*window):
            where = tuple(p * strides + o - low for p, o, (low, _) in zip(place, offset, at, strict=True))
            if all(0 <= w < n for w, n in zip(where, size, strict=True)):
                total = total + pixels[(0, *where)] @ kernel[offset]
        np.testing.assert_allclose(found[0][(0, *place)], total, atol=1e-5)


def test_other_platforms_get_a_convolution():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
    text = {p: jax.jit(convolve).trace(x, kernel).lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert "convolution" in text["cuda"] and "dot_general" not in text["cuda"]
    assert "dot_general" in text["cpu"] and "convolution" not in text["cpu"]
