"""Augmented feature distillation (AFD) of CLIP-KD."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.lax import stop_gradient

from mmkd_jax.core.objective import Objective, filled
from mmkd_jax.methods.contrastive.contrast import contrast
from mmkd_jax.numeric import at_least_float32, unit
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def clip_afd(
    *,
    student: tuple[str, str] = ("student.features.image", "student.features.text"),
    teacher: tuple[str, str] = ("teacher.features.image", "teacher.features.text"),
    temperature: Positive = 0.07,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Augmented feature distillation (AFD of CLIP-KD): contrastive loss of fused student and teacher embeddings.

    Formula: symmetric InfoNCE of f and g, f = W [s; t] + c of the image embeddings, g = V [s; t] + d of the text
        embeddings, s and t of unit length

    Args:
        student: paths of the student's image and text embeddings.
        teacher: paths of the teacher's image and text embeddings.
        temperature: τ.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with two linear layers, as wide as the student's embeddings, as parameters.

    Topic: contrastive
    Compares: images and texts, by fused student and teacher embeddings
    Extra: trains two linear layers
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024, https://arxiv.org/abs/2307.12732
    Differs: the authors' code multiplies the similarities by a learned scale initialized to log(1 / 0.07), equivalent
        to an initial τ of 0.376

    Example:
        >>> fused = clip_afd(temperature=0.05)
    """
    paths = dict(zip(("image", "text"), zip(student, teacher, strict=True), strict=True))
    hyperparams = {"temperature": temperature, "weight": weight}
    loss = contrast("fused.image", "fused.text", symmetric=True, where=where, **hyperparams)

    def concatenated(outputs, side):
        s, t = (filled(outputs, path, where) for path in paths[side])
        s, t = at_least_float32(s, stop_gradient(t))
        return jnp.concatenate([unit(s), unit(t)], -1), nn.Dense(s.shape[-1])

    def add_fused(params, outputs):
        fused = {}
        for side in paths:
            x, layer = concatenated(outputs, side)
            fused[side] = layer.apply({"params": params[side]}, x)
        return outputs.add(fused=fused)

    def init(outputs):
        params = {}
        for side in paths:
            x, layer = concatenated(outputs, side)
            params[side] = layer.init(outputs.ctx.at(side).key, x)["params"]
        return params, loss.init(add_fused(params, outputs))[1]

    def apply(params, state, outputs):
        return loss.apply({}, state, add_fused(params, outputs))

    return Objective(init, apply)
