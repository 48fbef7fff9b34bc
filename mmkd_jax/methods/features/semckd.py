"""Semantic calibration for cross-layer distillation (SemCKD)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import Objective, filled, mask_of, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses._pool import average_pool
from mmkd_jax.losses.features.semckd import semckd as calibrated
from mmkd_jax.methods._module import apply_module, init_module
from mmkd_jax.nn.connectors import Bottleneck, as_map
from mmkd_jax.numeric import inner, rows_that_count, unit, zero_rows
from mmkd_jax.typing import Count, Positive, Scalar
from mmkd_jax.validation import validated

Maps = tuple[Float[Array, "b _ _ _"], ...]


@validated
def semckd(
    student: tuple[str, ...],
    teacher: tuple[str, ...],
    *,
    temperature: Positive = 1.0,
    factor: Count = 4,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Semantic calibration (SemCKD): cross-layer feature matching with learned attention over teacher layers.

    Formula: (1 / S) Σ_ij w_ij mean(P_ij s_i − t_j)², w_i = softmax_j(⟨q_i(G_s,i), k_j(G_t,j)⟩ / τ); G = X Xᵀ over the
        rows of the batch, q and k MLPs with outputs of unit length, P projections; of each pair, the larger map is
        pooled

    Args:
        student: paths of the student's layers: maps [b, h, w, c]; tokens [b, l, d] and rows [b, d] are treated as l × 1
            and 1 × 1 maps.
        teacher: paths of the teacher's layers, any number.
        temperature: τ.
        factor: q and k have n / factor channels, for a batch of n rows.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective. The MLPs read similarities to the n rows of the batch, so the first batch fixes n. Each pair of
        layers has a separate projection: with many layers this is by far the most expensive method of this library.

    Topic: features
    Compares: features of several layers
    Extra: trains an MLP per layer and a projection per pair; keeps the projections' BatchNorm statistics
    Source: Chen et al., Cross-Layer Distillation with Semantic Calibration, 2021, https://arxiv.org/abs/2012.03236

    Example:
        >>> match = semckd(("student.hidden.image.0", "student.hidden.image.1"), ("teacher.hidden.image.2",))
    """
    if isinstance(student, str) or isinstance(teacher, str):
        raise UserError(f"semckd: student is {student!r}, teacher is {teacher!r}; give tuples of paths, one per layer")
    pairs = range(len(student) * len(teacher))
    sides: dict[str, Any] = {side: tuple(f"match.{side}.{k}" for k in pairs) for side in ("student", "teacher")}
    loss = term(calibrated, **sides, weights="match.weights", weight=weight, where=where)
    match = Match(factor)

    def read(outputs):
        s, t = (tuple(as_map(filled(outputs, p, where)) for p in paths) for paths in (student, teacher))
        return s, jax.lax.stop_gradient(t), rows_that_count(t[0], mask_of(outputs, where))

    def init(outputs):
        params, state = init_module(match, outputs.ctx, *read(outputs), temperature)
        objective_state = loss.init(outputs)[1]
        hyperparams = objective_state["hyperparams"] | {"temperature": np.float32(temperature)}
        return params, objective_state | {"hyperparams": hyperparams, "state": state}

    def apply(params, objective_state, outputs):
        tau, ctx = objective_state["hyperparams"]["temperature"], outputs.ctx._replace(where=mask_of(outputs, where))
        (s, t, weights), state = apply_module(match, params, objective_state["state"], ctx, *read(outputs), tau)
        both = {f"student.{k}": x for k, x in enumerate(s)} | {f"teacher.{k}": x for k, x in enumerate(t)}
        inner_state = {
            "hyperparams": {k: v for k, v in objective_state["hyperparams"].items() if k != "temperature"},
            "state": {},
        }
        out, _ = loss.apply({}, inner_state, outputs.add(match=both | {"weights": weights}))
        return out, objective_state | {"state": state}

    return Objective(init, apply)


class Match(nn.Module):
    """Project every student layer to every teacher layer, and compute the attention weights between layers.

    Attributes:
        factor: batch size divided by the channels of queries and keys.
    """

    factor: int

    @nn.compact
    def __call__(
        self, student: Maps, teacher: Maps, where: Bool[Array, " b"], temperature: Positive, ctx: StepContext
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

    def _embed(self, x: Float[Array, "b h w c"], where: Bool[Array, " b"], ctx: StepContext) -> Float[Array, "b d"]:
        x = zero_rows(x.reshape(len(x), -1), where)
        similar = inner(x, gather(x, ctx.axis_name)[0])
        width = max(similar.shape[1] // self.factor, 1)
        hidden = nn.relu(nn.Dense(2 * width)(similar))
        return unit(nn.Dense(width)(hidden))
