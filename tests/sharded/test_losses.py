"""Every loss that couples rows: eight devices, under jit and per device, give the value and gradients of one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mmkd_jax.core.objective import Term, total
from mmkd_jax.core.sharding import AXIS
from tests.losses.harness import close, coupled, largest, split_numbers

ROWS = 16
WHERE = np.random.default_rng(0).random(ROWS) < 0.6


def like_rows(x, rng):
    """Sixteen rows after the pattern of a case's few; no two floating ones alike."""
    more = np.resize(x, (ROWS, *x.shape[1:]))
    return more * rng.uniform(0.5, 1.5, more.shape) if more.dtype.kind == "f" else more


def extended(case):
    """Floating inputs; the other arguments of the loss that are arrays; the static ones."""
    rng = np.random.default_rng(1)
    hyperparams, static = split_numbers(case, jnp.float64)

    def longer(x):
        x = np.asarray(x)
        return jnp.asarray(like_rows(x, rng) if x.ndim and len(x) == case.rows else x)

    arrays = jax.tree.map(longer, case.inputs | hyperparams)
    moving = {k: arrays.pop(k) for k in case.floating}
    return moving, arrays, static


def test_the_mask_leaves_devices_with_two_rows_and_one_and_none():
    assert set(WHERE.reshape(8, -1).sum(1)) == {0, 1, 2}


@coupled
def test_eight_devices_give_what_one_gives(case, mesh):
    with jax.enable_x64(True):
        moving, arrays, static = extended(case)
        arguments = (moving, arrays, jnp.asarray(WHERE))
        specs = jax.tree.map(lambda x: P(AXIS) if x.ndim and len(x) == ROWS else P(), arguments)

        def share(moving, arrays, where, axis_name=None):
            options = {"axis_name": axis_name} if axis_name else {}
            values = case.loss(**moving, **arrays, **static, where=where, **options)
            return total({"loss": Term(values, where)}, axis_name)[0]

        whole = jax.jit(jax.value_and_grad(share))
        value, gradients = whole(*arguments)
        assert np.isfinite(value) and largest(gradients) > 0

        def each(*mine):
            part, slopes = jax.value_and_grad(partial(share, axis_name=AXIS))(*mine)
            summed = jax.tree.map(lambda g, spec: g if spec == P(AXIS) else jax.lax.psum(g, AXIS), slopes, specs[0])
            return jax.lax.psum(part, AXIS), summed

        local = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=(P(), specs[0]), check_vma=False)
        spread = jax.device_put(arguments, jax.tree.map(lambda s: NamedSharding(mesh, s), specs))
        for form in (whole, jax.jit(local)):
            there, slopes = form(*spread)
            assert float(there) == pytest.approx(float(value), rel=1e-6)  # a total is in float32
            close(slopes, gradients, 1e-9, 1e-11 * largest(gradients))
