"""Reductions over all pairs of rows of all devices, computed blockwise on a ring of devices.

The teacher's rows travel around the ring. The hand-written backward pass goes around a second time and recomputes each
block; the gradient of a teacher block travels with it and ends on its own device. First-order reverse mode only.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mmkd_jax.numeric import finite, inner

ROWS = 128  # maximum number of student rows in a tile


class Reduction(NamedTuple):
    """Reduction of a row's scores; a score of −inf is ignored.

    Attributes:
        start: total of an empty set of scores.
        over: `(scores, axis) -> total`.
        merge: `(total, total) -> total`.
        slope: `(scores, total) -> derivative of the total with respect to each score`.
    """

    start: float
    over: Callable
    merge: Callable
    slope: Callable


LOG_SUM_EXP = Reduction(
    -jnp.inf, jax.nn.logsumexp, jnp.logaddexp, lambda scores, total: jnp.exp(scores - finite(total))
)
SUM_SOFTPLUS = Reduction(
    0.0,
    lambda scores, over: jnp.sum(jax.nn.softplus(scores), over),
    jnp.add,
    lambda scores, total: jax.nn.sigmoid(scores),
)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def totals(
    reduction: Reduction,
    both: bool,
    axis_name: str | None,
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    mask: Bool[Array, " b"],
    bias: Float[Array, ""],
) -> tuple[Float[Array, " b"], Float[Array, " b"] | None]:
    """Reduce each row's scores ⟨s_i, t_j⟩ + bias over all valid rows j ≠ i of all devices.

    Each device multiplies its student rows, tile by tile, with the teacher block it currently has, and passes the block
    on together with the block's partial totals. After one full rotation every block is back on its own device.

    Args:
        reduction: the reduction.
        both: also reduce over the student's rows, for each teacher row, from the same products.
        axis_name: mapped device axis; None is a ring of one device.
        student: s, [b, d].
        teacher: t, [b, d].
        mask: mask of valid rows, [b].
        bias: b, a scalar.

    Returns:
        Totals of the student's rows, and of the teacher's rows (None unless `both`).
    """
    return _forward(reduction, both, axis_name, student, teacher, mask, bias)[0]


def _forward(reduction, both, axis_name, student, teacher, mask, bias):
    start = jnp.full(mask.shape, reduction.start, student.dtype)
    tiles = _tiles(len(mask), student, mask, jnp.arange(len(mask)))

    def process(is_local, rows, block):
        teacher, column_mask, columns = block

        def tile_step(columns, tile):
            student, row_mask, index = tile
            scores, off_diagonal = inner(student, teacher) + bias, _off_diagonal(is_local, index, column_mask)
            if both:
                columns = reduction.merge(columns, reduction.over(_masked(row_mask[:, None] & off_diagonal, scores), 0))
            return columns, reduction.over(_masked(column_mask[None] & off_diagonal, scores), 1)

        columns, tile_totals = lax.scan(tile_step, columns, tiles)
        return reduction.merge(rows, _untiled(tile_totals, len(rows))), (teacher, column_mask, columns)

    rows, (*_, columns) = _rotate(process, start, (teacher, mask, start if both else None), axis_name)
    return (rows, columns), (student, teacher, mask, bias, rows, columns)


def _backward(reduction, both, axis_name, residuals, cotangents):
    student, teacher, mask, bias, rows, columns = residuals
    tiles = _tiles(len(mask), student, mask, jnp.arange(len(mask)), rows, cotangents[0])

    def process(is_local, carry, block):
        (teacher, column_mask, columns, d_columns), d_teacher = block
        d_student, d_bias = carry

        def tile_step(carry, tile):
            d_teacher, d_bias = carry
            student, row_mask, index, rows, d_rows = tile
            scores, off_diagonal = inner(student, teacher) + bias, _off_diagonal(is_local, index, column_mask)
            slope = d_rows[:, None] * reduction.slope(_masked(column_mask[None] & off_diagonal, scores), rows[:, None])
            if both:
                masked = _masked(row_mask[:, None] & off_diagonal, scores)
                slope += d_columns[None] * reduction.slope(masked, columns[None])
            return (d_teacher + inner(slope.T, student.T), d_bias + jnp.sum(slope)), inner(slope, teacher.T)

        (d_teacher, d_bias), tile_gradients = lax.scan(tile_step, (d_teacher, d_bias), tiles)
        return (d_student + _untiled(tile_gradients, len(mask)), d_bias), (block[0], d_teacher)

    carry = jnp.zeros_like(student), jnp.zeros_like(bias)
    block = (teacher, mask, columns, cotangents[1]), jnp.zeros_like(teacher)
    (d_student, d_bias), (_, d_teacher) = _rotate(process, carry, block, axis_name)
    return d_student, d_teacher, None, d_bias


totals.defvjp(_forward, _backward)


def _rotate(process, carry, block, axis_name):
    """Run `process(is_local, carry, block)` on every device with every block; each block ends where it started."""
    if axis_name is None:
        return process(True, carry, block)
    size = lax.axis_size(axis_name)
    permutation = [(i, (i + 1) % size) for i in range(size)]

    def hop(i, carry_and_block):
        carry, block = process(i == 0, *carry_and_block)
        return carry, jax.tree.map(lambda x: lax.ppermute(x, axis_name, permutation), block)

    return lax.fori_loop(0, size, hop, (carry, block))


def _tiles(length, *arrays):
    """Reshape row arrays to [tiles, rows, …], padded with invalid rows.

    Each tile takes strided rows from the whole batch: if the rows are sharded over a mesh, they stay on their devices.
    """
    num_tiles = max(1, -(-length // ROWS))
    tile_rows = max(1, -(-length // num_tiles))

    def cut(x):
        x = jnp.pad(x, [(0, tile_rows * num_tiles - length)] + [(0, 0)] * (x.ndim - 1))
        return jnp.moveaxis(x.reshape(tile_rows, num_tiles, *x.shape[1:]), 1, 0)

    return tuple(map(cut, arrays))


def _untiled(tiles, length):
    """Inverse of `_tiles`: [tiles, rows, …] -> [length, …]."""
    x = jnp.moveaxis(tiles, 0, 1)
    return x.reshape(-1, *x.shape[2:])[:length]


def _off_diagonal(is_local, index, column_mask):
    """Mask of the pairs in a block that do not pair a row with itself."""
    return ~(is_local & (index[:, None] == jnp.arange(len(column_mask))[None]))


def _masked(pairs, scores):
    """Scores with −inf outside the pair mask."""
    return jnp.where(pairs, scores, -jnp.inf)
