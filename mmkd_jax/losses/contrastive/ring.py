"""All pairs of the rows of all devices, a block at a time: one side's rows travel round a ring of devices.

No device holds more than its own rows against one other's. Gradients are worked out by hand: what a block needs is
computed again on the way back, and a guest's gradient travels with it until both are home. Reverse mode only, once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.numeric import inner

Rows = Float[Array, "b d"]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def nce(
    student: Rows, teacher: Rows, temperature: Float[Array, ""], where: Bool[Array, " b"], symmetric: bool, axis: str
) -> Float[Array, " b"]:
    """InfoNCE of rows of length 1: −log softmax_j(⟨s_i, t_j⟩ / τ)_i, j over the rows of all devices."""
    return _nce(student, teacher, temperature, where, symmetric, axis)[0]


def _nce(s, t, temperature, where, symmetric, axis):
    nothing = jnp.full(len(s), -jnp.inf, s.dtype)

    def visit(rows, guest, own):
        t, theirs, columns = guest
        score = inner(s, t) / temperature
        rows = jnp.logaddexp(rows, jax.nn.logsumexp(jnp.where(theirs[None] | own, score, -jnp.inf), 1))
        if symmetric:  # the same block, read the other way: a guest's sum travels with it
            there = jnp.where(where[:, None] | own, score, -jnp.inf)
            columns = jnp.logaddexp(columns, jax.nn.logsumexp(there, 0))
        return rows, (t, theirs, columns)

    rows, (_, _, columns) = _round(visit, nothing, (t, where, nothing), axis)
    matched = jnp.sum(s * t, -1) / temperature
    values = (rows + columns) / 2 - matched if symmetric else rows - matched
    return values, (s, t, temperature, where, rows, columns)


def _nce_back(symmetric, axis, kept, gradient):
    s, t, temperature, where, rows, columns = kept
    slope = gradient / 2 if symmetric else gradient

    def visit(here, guest, own):
        to_s, to_temperature = here
        t, theirs, columns, their_slope, to_t = guest
        score, one = inner(s, t) / temperature, own.astype(s.dtype)
        p = jnp.where(theirs[None] | own, jnp.exp(score - rows[:, None]), 0)
        to_score = slope[:, None] * (p - one)
        if symmetric:
            q = jnp.where(where[:, None] | own, jnp.exp(score - columns[None]), 0)
            to_score = to_score + their_slope[None] * (q - one)
        return _back(to_score / temperature, score, s, t, to_s, to_t, to_temperature, (theirs, columns, their_slope))

    here = (jnp.zeros_like(s), jnp.zeros_like(temperature))
    (to_s, to_temperature), guest = _round(visit, here, (t, where, columns, slope, jnp.zeros_like(t)), axis)
    return to_s, guest[-1], to_temperature, None


nce.defvjp(_nce, _nce_back)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def sigmoid(
    student: Rows,
    teacher: Rows,
    temperature: Float[Array, ""],
    bias: Float[Array, ""],
    where: Bool[Array, " b"],
    axis: str,
) -> Float[Array, " b"]:
    """SigLIP of rows of length 1: Σ_j −log σ(z_ij (⟨s_i, t_j⟩ / τ + β)), j over the rows of all devices."""
    return _sigmoid(student, teacher, temperature, bias, where, axis)[0]


def _sigmoid(s, t, temperature, bias, where, axis):
    def visit(rows, guest, own):
        t, theirs = guest
        logit = inner(s, t) / temperature + bias
        lost = jax.nn.softplus(jnp.where(own, -logit, logit))
        return rows + jnp.sum(jnp.where(theirs[None] | own, lost, 0), 1), guest

    values, _ = _round(visit, jnp.zeros(len(s), s.dtype), (t, where), axis)
    return values, (s, t, temperature, bias, where)


def _sigmoid_back(axis, kept, gradient):
    s, t, temperature, bias, where = kept

    def visit(here, guest, own):
        (to_s, to_temperature, to_bias), (t, theirs, to_t) = here, guest
        score = inner(s, t) / temperature
        wrong = jax.nn.sigmoid(score + bias) - own.astype(s.dtype)
        to_score = gradient[:, None] * jnp.where(theirs[None] | own, wrong, 0)
        (to_s, to_temperature), guest = _back(
            to_score / temperature, score, s, t, to_s, to_t, to_temperature, (theirs,)
        )
        return (to_s, to_temperature, to_bias + jnp.sum(to_score)), guest

    here = (jnp.zeros_like(s), jnp.zeros_like(temperature), jnp.zeros_like(bias))
    (to_s, to_temperature, to_bias), guest = _round(visit, here, (t, where, jnp.zeros_like(t)), axis)
    return to_s, guest[-1], to_temperature, to_bias, None


sigmoid.defvjp(_sigmoid, _sigmoid_back)


def _back(slope, score, s, t, to_s, to_t, to_temperature, along):
    """A block's share of the gradients; `slope` is that of the inner products."""
    to_s = to_s + jnp.matmul(slope, t, precision="highest")
    to_t = to_t + jnp.matmul(slope.T, s, precision="highest")
    return (to_s, to_temperature - jnp.sum(slope * score)), (t, *along, to_t)


def _round(visit: Callable[..., tuple[Any, Any]], here: Any, guest: Any, axis: str):
    """`here, guest = visit(here, guest, own)` with each device's guest in turn; at the end it is home again.

    `own` marks the pairs of a row with its own partner.
    """
    devices = jax.lax.axis_size(axis)
    to_the_next = [(i, (i + 1) % devices) for i in range(devices)]
    rows = len(jax.tree.leaves(guest)[0])

    def hop(carry, i):
        here, guest = visit(*carry, jnp.eye(rows, dtype=bool) & (i == 0))
        return (here, jax.tree.map(lambda x: jax.lax.ppermute(x, axis, to_the_next), guest)), None

    return jax.lax.scan(hop, (here, guest), jnp.arange(devices))[0]
