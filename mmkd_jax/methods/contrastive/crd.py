"""Contrastive representation distillation (CRD) with memory banks."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.collectives import gather, summed
from mmkd_jax.core.objective import Objective, Term, filled, mask_of
from mmkd_jax.errors import UserError
from mmkd_jax.numeric import unit
from mmkd_jax.typing import Count, Positive, Scalar, Share
from mmkd_jax.validation import validated


@validated
def crd(
    size: Count,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    width: Count = 128,
    negatives: Count = 16_384,
    temperature: Positive = 0.07,
    momentum: Share = 0.5,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Contrastive representation distillation (CRD): student–teacher NCE with negatives from memory banks.

    Formula: −log h(x⁺) − Σ_K log(1 − h(x⁻)) for both anchors, h = p / (p + K/N), p = exp(⟨anchor, bank⟩ / τ) / Z;
        Z = N · mean of the first batch's exp, then fixed; bank ← normalize(m · bank + (1 − m) · embedding) after use.

    Args:
        size: number of rows in the banks; example_id must be in 0 … size − 1. A larger id makes the loss NaN; an
            experiment rejects such data before its first step.
        student: path of the student's embedding.
        teacher: path of the teacher's embedding; it gets no gradient, but its projection does.
        width: width of both projections.
        negatives: K, sampled from all rows of the bank at each step.
        temperature: τ; exp(1 / τ) must fit into float32, which fails below 0.012.
        momentum: m.
        weight: loss weight.
        where: batch mask(s) of the rows that count; other rows are not used as positives or for Z and do not enter the
            banks.

    Returns:
        An objective with two linear projections as parameters; its state has two banks and two normalizers Z.

    Topic: contrastive
    Compares: embeddings
    Extra: trains two projections; keeps two memory banks and two normalizers
    Source: Tian et al., Contrastive Representation Distillation, 2020, https://arxiv.org/abs/1910.10699
    Differs: the authors' code samples negatives from other classes only, without replacement if there are enough; here
        from all rows, since no labels are needed

    Example:
        >>> contrast = crd(6_000, negatives=1_024)
    """
    paths = {"student": student, "teacher": teacher}
    layer = nn.Dense(width)

    def project(params, x) -> Float[Array, "b d"]:
        return jnp.asarray(layer.apply({"params": params}, _flat(x)))

    def init(outputs):
        if (rows := len(outputs["batch.example_id"])) > size:
            raise UserError(f"crd: size is {size}, but a batch has {rows} rows; set size to the number of examples")
        params, bank = {}, {}
        for side, path in paths.items():
            key = outputs.ctx.at(side).key
            params[side] = layer.init(key, _flat(outputs[path]))["params"]
            bound = 1 / math.sqrt(width / 3)
            bank[side] = jax.random.uniform(jax.random.fold_in(key, 1), (size, width), minval=-bound, maxval=bound)
        hyperparams = {"temperature": temperature, "momentum": momentum, "weight": weight}
        return params, {
            "bank": bank,
            "z": {side: jnp.float32(-1) for side in paths},
            "hyperparams": {k: np.float32(v) for k, v in hyperparams.items()},
        }

    def apply(params, state, outputs):
        hyperparams, ids, axis_name = state["hyperparams"], outputs["batch.example_id"], outputs.ctx.axis_name
        mask = mask_of(outputs, where)
        valid = jnp.ones(ids.shape, bool) if mask is None else mask
        inside = (ids >= 0) & (ids < size)
        rows = jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(outputs.ctx.key, i), (negatives,), 0, size))(
            ids
        )
        rows = jnp.concatenate([ids[:, None], rows], 1)  # the positive first
        embedded = {
            side: unit(project(params[side], x))
            for side, x in {
                "student": filled(outputs, student, where),
                "teacher": stop_gradient(filled(outputs, teacher, where)),
            }.items()
        }
        values, z = jnp.zeros(ids.shape), {}
        for anchor, other in (("student", "teacher"), ("teacher", "student")):
            scores = jnp.einsum("bd,bkd->bk", embedded[anchor], state["bank"][other][rows])
            p = jnp.exp(scores / hyperparams["temperature"])
            z[anchor] = _normalizer(state["z"][anchor], stop_gradient(p), valid, size, axis_name)
            values = values + _nce(p / jnp.where(z[anchor] > 0, z[anchor], 1), size)
        bank = {
            side: _update(
                state["bank"][side], stop_gradient(x), ids, valid & inside, hyperparams["momentum"], axis_name
            )
            for side, x in embedded.items()
        }
        values = jnp.where(inside, values, jnp.nan)
        return Term(values, mask, hyperparams["weight"]), {"bank": bank, "z": z, "hyperparams": hyperparams}

    return Objective(init, apply)


def _flat(x):
    return x.reshape(len(x), -1)


def _nce(p: Float[Array, "b k"], size: int) -> Float[Array, " b"]:
    """NCE loss with the positive in the first column and uniform noise over the bank."""
    noise, eps = (p.shape[1] - 1) / size, 1e-7
    positive = -jnp.log(p[:, 0] / (p[:, 0] + noise + eps))
    return positive - jnp.sum(jnp.log(noise / (p[:, 1:] + noise + eps)), 1)


def _normalizer(z, p, valid, size, axis_name):
    """Return Z: the stored one, or an estimate from the first batch with a valid row."""
    s = summed(jnp.sum(jnp.where(valid[:, None], p, 0)), axis_name)
    count = summed(jnp.sum(valid), axis_name) * p.shape[1]
    first = jnp.where(count > 0, s / jnp.maximum(count, 1).astype(s.dtype) * size, -1)
    return jnp.where(z < 0, first, z)


def _update(bank, x, ids, valid, momentum, axis_name):
    gathered = {k: gather(v, axis_name)[0] for k, v in {"x": x, "ids": ids, "valid": valid}.items()}
    ids = jnp.where(gathered["valid"], gathered["ids"], len(bank))  # out of range: dropped
    # keep the first of rows with equal ids: the order of duplicate scatter updates is undefined
    ids = jnp.where(jnp.argmax(ids[:, None] == ids[None, :], 1) == jnp.arange(len(ids)), ids, len(bank))
    new = momentum * bank[jnp.minimum(ids, len(bank) - 1)] + (1 - momentum) * gathered["x"]
    return bank.at[ids].set(unit(new), mode="drop")
