"""All pairs of the rows of all devices, a few at a time: the teacher's rows go round a ring of devices.

Gradients are worked out by hand: the backward pass goes round a second time and computes each block again, and a
guest's gradient travels with it until both are home. Reverse mode only, once.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.numeric import finite, inner

ROWS = 128  # of a tile: how many of the student's are compared at a time


class Reduction(NamedTuple):
    """What is made of a row's scores with others; a score of −inf is none.

    Attributes:
        start: of no scores.
        over: (scores, axis) -> total.
        merge: two totals -> one.
        slope: (scores, total) -> the total's derivative by each of them.
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
    of: Reduction,
    both: bool,
    axis: str | None,
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    mask: Bool[Array, " b"],
    bias: Float[Array, ""],
) -> tuple[Float[Array, " b"], Float[Array, " b"] | None]:
    """Each row's total of its scores ⟨s_i, t_j⟩ + bias with all rows j ≠ i that count, on all devices.

    A device multiplies its student's rows, tile by tile, with those of one device's teacher, and passes these on,
    together with what they have gathered so far: once round, they are at home again.

    Args:
        of: the reduction.
        both: the totals of the teacher's rows, too, from the same products.
        axis: the device axis; None is a ring of one device.
        student: s.
        teacher: t.
        mask: rows that count.
        bias: b.

    Returns:
        The totals of the student's rows and of the teacher's (None if not `both`).
    """
    return _forward(of, both, axis, student, teacher, mask, bias)[0]


def _forward(of, both, axis, student, teacher, mask, bias):
    start = jnp.full(mask.shape, of.start, student.dtype)
    tiles = _tiles(len(mask), student, mask, jnp.arange(len(mask)))

    def meet(at_home, rows, guest):
        teacher, there, columns = guest

        def some(columns, tile):
            student, here, place = tile
            scores, others = inner(student, teacher) + bias, _others(at_home, place, there)
            if both:
                columns = of.merge(columns, of.over(_only(here[:, None] & others, scores), 0))
            return columns, of.over(_only(there[None] & others, scores), 1)

        columns, more = lax.scan(some, columns, tiles)
        return of.merge(rows, _joined(more, len(rows))), (teacher, there, columns)

    rows, (*_, columns) = _round(meet, start, (teacher, mask, start if both else None), axis)
    return (rows, columns), (student, teacher, mask, bias, rows, columns)


def _backward(of, both, axis, kept, slopes):
    student, teacher, mask, bias, rows, columns = kept
    tiles = _tiles(len(mask), student, mask, jnp.arange(len(mask)), rows, slopes[0])

    def meet(at_home, mine, guest):
        (teacher, there, columns, to_columns), to_teacher = guest
        to_student, to_bias = mine

        def some(carry, tile):
            to_teacher, to_bias = carry
            student, here, place, rows, to_rows = tile
            scores, others = inner(student, teacher) + bias, _others(at_home, place, there)
            slope = to_rows[:, None] * of.slope(_only(there[None] & others, scores), rows[:, None])
            if both:
                slope += to_columns[None] * of.slope(_only(here[:, None] & others, scores), columns[None])
            return (to_teacher + inner(slope.T, student.T), to_bias + jnp.sum(slope)), inner(slope, teacher.T)

        (to_teacher, to_bias), more = lax.scan(some, (to_teacher, to_bias), tiles)
        return (to_student + _joined(more, len(mask)), to_bias), (guest[0], to_teacher)

    mine = jnp.zeros_like(student), jnp.zeros_like(bias)
    guest = (teacher, mask, columns, slopes[1]), jnp.zeros_like(teacher)
    (to_student, to_bias), (_, to_teacher) = _round(meet, mine, guest, axis)
    return to_student, to_teacher, None, to_bias


totals.defvjp(_forward, _backward)


def _round(meet, mine, guest, axis):
    """`meet(at_home, mine, guest)` on every device with the guests of every device, which end at home."""
    if axis is None:
        return meet(True, mine, guest)
    size = lax.axis_size(axis)
    next_ = [(i, (i + 1) % size) for i in range(size)]

    def hop(i, both):
        mine, guest = meet(i == 0, *both)
        return mine, jax.tree.map(lambda x: lax.ppermute(x, axis, next_), guest)

    return lax.fori_loop(0, size, hop, (mine, guest))


def _tiles(width, *arrays):
    """What rows have, as [tiles, rows, …], filled up with rows that do not count.

    Every tile takes its rows from all over the batch: where rows are spread over a mesh, they stay there.
    """
    count = max(1, -(-width // ROWS))
    few = max(1, -(-width // count))

    def cut(x):
        x = jnp.pad(x, [(0, few * count - width)] + [(0, 0)] * (x.ndim - 1))
        return jnp.moveaxis(x.reshape(few, count, *x.shape[1:]), 1, 0)

    return tuple(map(cut, arrays))


def _joined(tiles, width):
    x = jnp.moveaxis(tiles, 0, 1)
    return x.reshape(-1, *x.shape[2:])[:width]


def _others(at_home, place, there):
    """Which pairs of a block are not a row with itself."""
    return ~(at_home & (place[:, None] == jnp.arange(len(there))[None]))


def _only(pairs, scores):
    return jnp.where(pairs, scores, -jnp.inf)
