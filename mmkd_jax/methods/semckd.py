"""Semantic calibration: which layer of the teacher teaches which of the student is learned, example by example."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Bottleneck, as_map
from mmkd_jax.errors import UserError
from mmkd_jax.losses.features.semckd import semckd as calibrated
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Count, Number, Positive
from mmkd_jax.losses.numeric import inner, rows_that_count, unit, zero_rows
from mmkd_jax.losses.pool import average_pool
from mmkd_jax.methods import learned
from mmkd_jax.objective import Objective, mask_of, term
from mmkd_jax.views import Context

Maps = tuple[Float[Array, "b _ _ _"], ...]


@held
def semckd(
    student: tuple[str, ...],
    teacher: tuple[str, ...],
    *,
    temperature: Positive = 1.0,
    factor: Count = 4,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Semantic calibration (SemCKD): all pairs of layers, weighted by how alike the layers see the batch.

    Formula: (1 / S) Σ_ij w_ij mean(P_ij s_i − t_j)², w_i = softmax_j(⟨q_i(G_s,i), k_j(G_t,j)⟩ / τ); G = X Xᵀ over the
    rows of the batch, q and k MLPs to unit length, P projections; of each pair, the larger map is pooled

    Args:
        student: paths of the student's layers: maps [b, h, w, c]; tokens [b, l, d] and rows [b, d] count as maps that
            are l × 1 and 1 × 1.
        teacher: paths of the teacher's layers, as many as one likes.
        temperature: τ.
        factor: q and k have n / factor channels, for a batch of n rows.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.

    Returns:
        An objective. The MLPs read similarities to the n rows of the batch: n is fixed from the first batch on. Each
        pair of layers has a projection of its own: with many layers it is by far the dearest method here.

    Topic: features
    Compares: features of several layers
    Extra: trains an MLP a layer and a projection a pair; remembers the projections' BatchNorm statistics
    Source: Chen et al., Cross-Layer Distillation with Semantic Calibration, 2021, https://arxiv.org/abs/2012.03236

    Example:
        >>> match = semckd(("student.hidden.image.0", "student.hidden.image.1"), ("teacher.hidden.image.2",))
    """
    if isinstance(student, str) or isinstance(teacher, str):
        raise UserError(f"semckd: {student!r} and {teacher!r}: give tuples of paths, one a layer")
    pairs = range(len(student) * len(teacher))
    sides: dict[str, Any] = {side: tuple(f"match.{side}.{k}" for k in pairs) for side in ("student", "teacher")}
    loss = term(calibrated, **sides, weights="match.weights", weight=weight, where=where)
    match = Match(factor)

    def look(views):
        s, t = (tuple(as_map(views[p]) for p in paths) for paths in (student, teacher))
        return s, jax.lax.stop_gradient(t), rows_that_count(t[0], mask_of(views, where))

    def init(views):
        params, state = learned.begin(match, views.ctx, *look(views), temperature)
        memory = loss.init(views)[1]
        numbers = memory["numbers"] | {"temperature": np.float32(temperature)}
        return params, memory | {"numbers": numbers, "state": state}

    def apply(params, memory, views):
        now, ctx = memory["numbers"]["temperature"], views.ctx._replace(where=mask_of(views, where))
        (s, t, weights), state = learned.run(match, params, memory["state"], ctx, *look(views), now)
        both = {f"student.{k}": x for k, x in enumerate(s)} | {f"teacher.{k}": x for k, x in enumerate(t)}
        inner_memory = {"numbers": {k: v for k, v in memory["numbers"].items() if k != "temperature"}, "state": {}}
        found, _ = loss.apply({}, inner_memory, views.add(match=both | {"weights": weights}))
        return found, memory | {"state": state}

    return Objective(init, apply)


class Match(nn.Module):
    """Every layer of the student projected to every layer of the teacher, and how well the two match.

    Attributes:
        factor: rows of the batch for each channel of queries and keys.
    """

    factor: int

    @nn.compact
    def __call__(
        self, student: Maps, teacher: Maps, where: Bool[Array, " b"], temperature: Positive, ctx: Context
    ) -> tuple[Maps, Maps, Float[Array, "b s t"]]:
        projected, targets = [], []
        for s in student:
            for t in teacher:
                size = (min(s.shape[1], t.shape[1]), min(s.shape[2], t.shape[2]))
                width = t.shape[-1]
                projected.append(Bottleneck(width, 2 * width)(average_pool(s, size), ctx))
                targets.append(average_pool(t, size))
        queries, keys = (jnp.stack([self._embed(x, where, ctx) for x in maps], 1) for maps in (student, teacher))
        return (
            tuple(projected),
            tuple(targets),
            jax.nn.softmax(inner(queries, keys) / jnp.asarray(temperature, queries.dtype), -1),
        )

    def _embed(self, x: Float[Array, "b h w c"], where: Bool[Array, " b"], ctx: Context) -> Float[Array, "b d"]:
        x = zero_rows(x.reshape(len(x), -1), where)
        similar = inner(x, gather(x, ctx.axis)[0])
        width = max(similar.shape[1] // self.factor, 1)
        hidden = nn.relu(nn.Dense(2 * width)(similar))
        return unit(nn.Dense(width)(hidden))
