"""Contrastive representation distillation, with its memory banks as explicit memory."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.gather import gather, summed
from mmkd_jax.losses.number import Count, Number, Positive, Share
from mmkd_jax.losses.numeric import unit
from mmkd_jax.objective import Objective, Term, mask_of


@held
def crd(
    size: Count,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    width: Count = 128,
    negatives: Count = 16_384,
    temperature: Positive = 0.07,
    momentum: Share = 0.5,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Tell the student's embedding of an example from the teacher's embeddings of others, and the other way round.

    Formula: −log h(x⁺) − Σ_K log(1 − h(x⁻)) for both anchors, h = p / (p + K/N), p = exp(⟨anchor, bank⟩ / τ) / Z;
    Z = N · mean of the first batch's exp, then fixed; bank ← normalise(m · bank + (1 − m) · embedding) after use.

    Args:
        size: rows of the banks: example_id runs from 0 to size − 1. A larger one makes the loss NaN;
            an experiment refuses such data before its first step.
        student: path of the student's embedding.
        teacher: path of the teacher's embedding; it gets no gradient, its projection does.
        width: of both projections.
        negatives: K, drawn from all rows of the bank, anew in each step.
        temperature: τ; exp(1 / τ) is to fit into float32, which it does not below 0.012.
        momentum: m.
        weight: of the term.
        where: mask(s) of the batch: other rows are no positives, count in no Z and do not enter the banks.

    Returns:
        An objective with two linear projections as parameters, two banks and two Z as memory.

    Topic: contrastive
    Compares: embeddings
    Extra: two projections, two memory banks, two Z
    Source: Tian et al., Contrastive Representation Distillation, 2020, https://arxiv.org/abs/1910.10699
    Differs: the authors' code draws negatives from other classes alone, without replacement where there are enough;
        here from all rows, as no label is needed

    Example:
        >>> contrast = crd(6_000, negatives=1_024)
    """
    paths = {"student": student, "teacher": teacher}
    layer = nn.Dense(width)

    def project(params, x) -> Float[Array, "b d"]:
        return jnp.asarray(layer.apply({"params": params}, _flat(x)))

    def init(views):
        if (rows := len(views["batch.example_id"])) > size:
            raise UserError(f"crd: size is {size}, but a batch has {rows} rows: give the banks a row for each example")
        params, bank = {}, {}
        for side, path in paths.items():
            key = views.ctx.at(side).key
            params[side] = layer.init(key, _flat(views[path]))["params"]
            edge = 1 / math.sqrt(width / 3)
            bank[side] = jax.random.uniform(jax.random.fold_in(key, 1), (size, width), minval=-edge, maxval=edge)
        given = {"temperature": temperature, "momentum": momentum, "weight": weight}
        return params, {
            "bank": bank,
            "z": {side: jnp.float32(-1) for side in paths},
            "numbers": {k: np.float32(v) for k, v in given.items()},
        }

    def apply(params, memory, views):
        numbers, ids, axis = memory["numbers"], views["batch.example_id"], views.ctx.axis
        mask = mask_of(views, where)
        valid = jnp.ones(ids.shape, bool) if mask is None else mask
        inside = (ids >= 0) & (ids < size)
        rows = jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(views.ctx.key, i), (negatives,), 0, size))(ids)
        rows = jnp.concatenate([ids[:, None], rows], 1)  # the positive first
        embedded = {
            side: unit(project(params[side], x))
            for side, x in {"student": views[student], "teacher": stop_gradient(views[teacher])}.items()
        }
        values, z = jnp.zeros(ids.shape), {}
        for anchor, other in (("student", "teacher"), ("teacher", "student")):
            scores = jnp.einsum("bd,bkd->bk", embedded[anchor], memory["bank"][other][rows])
            p = jnp.exp(scores / numbers["temperature"])
            z[anchor] = _normaliser(memory["z"][anchor], stop_gradient(p), valid, size, axis)
            values = values + _nce(p / jnp.where(z[anchor] > 0, z[anchor], 1), size)
        after = {
            side: _update(memory["bank"][side], stop_gradient(x), ids, valid & inside, numbers["momentum"], axis)
            for side, x in embedded.items()
        }
        values = jnp.where(inside, values, jnp.nan)
        return Term(values, mask, numbers["weight"]), {"bank": after, "z": z, "numbers": numbers}

    return Objective(init, apply)


def _flat(x):
    return x.reshape(len(x), -1)


def _nce(p: Float[Array, "b k"], size: int) -> Float[Array, " b"]:
    """Positive in the first column; noise is uniform over the bank."""
    noise, eps = (p.shape[1] - 1) / size, 1e-7
    positive = -jnp.log(p[:, 0] / (p[:, 0] + noise + eps))
    return positive - jnp.sum(jnp.log(noise / (p[:, 1:] + noise + eps)), 1)


def _normaliser(z, p, valid, size, axis):
    """Set once, from the first batch that has a valid row."""
    s = summed(jnp.sum(jnp.where(valid[:, None], p, 0)), axis)
    count = summed(jnp.sum(valid), axis) * p.shape[1]
    first = jnp.where(count > 0, s / jnp.maximum(count, 1).astype(s.dtype) * size, -1)
    return jnp.where(z < 0, first, z)


def _update(bank, x, ids, valid, momentum, axis):
    everyone = {k: gather(v, axis)[0] for k, v in {"x": x, "ids": ids, "valid": valid}.items()}
    ids = jnp.where(everyone["valid"], everyone["ids"], len(bank))  # beyond the bank: dropped
    # of rows with equal ids the first is taken: the order of a scatter's duplicates is not defined
    ids = jnp.where(jnp.argmax(ids[:, None] == ids[None, :], 1) == jnp.arange(len(ids)), ids, len(bank))
    new = momentum * bank[jnp.minimum(ids, len(bank) - 1)] + (1 - momentum) * everyone["x"]
    return bank.at[ids].set(unit(new), mode="drop")
