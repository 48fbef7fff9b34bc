"""Augmented feature distillation, with the layers that fuse student and teacher."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.lax import stop_gradient

from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, unit
from mmkd_jax.methods.contrast import contrast
from mmkd_jax.objective import Objective


@held
def clip_afd(
    *,
    student: tuple[str, str] = ("student.features.image", "student.features.text"),
    teacher: tuple[str, str] = ("teacher.features.image", "teacher.features.text"),
    temperature: Positive = 0.07,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Augmented feature distillation (AFD of CLIP-KD): the contrastive loss of embeddings fused with the teacher's.

    Formula: symmetric InfoNCE of f and g, f = W [s; t] + c of the images' embeddings, g = V [s; t] + d of the texts',
        s and t of length 1

    Args:
        student: paths of the student's image and text embedding.
        teacher: paths of the teacher's.
        temperature: τ.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.

    Returns:
        An objective with the two linear layers, as wide as the student, as parameters.

    Topic: contrastive
    Compares: images and texts, as student and teacher see them together
    Extra: trains two linear layers
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: in the authors' code the similarities are multiplied by a learned number that begins at log(1 / 0.07), as
        if τ were 0.376 at first

    Example:
        >>> fused = clip_afd(temperature=0.05)
    """
    paths = dict(zip(("image", "text"), zip(student, teacher, strict=True), strict=True))
    numbers = {"temperature": temperature, "weight": weight}
    loss = contrast("fused.image", "fused.text", symmetric=True, where=where, **numbers)

    def together(views, side):
        ours, theirs = (views[path] for path in paths[side])
        ours, theirs = at_least_float32(ours, stop_gradient(theirs))
        return jnp.concatenate([unit(ours), unit(theirs)], -1), nn.Dense(ours.shape[-1])

    def look(params, views):
        fused = {}
        for side in paths:
            x, layer = together(views, side)
            fused[side] = layer.apply({"params": params[side]}, x)
        return views.add(fused=fused)

    def init(views):
        params = {}
        for side in paths:
            x, layer = together(views, side)
            params[side] = layer.init(views.ctx.at(side).key, x)["params"]
        return params, loss.init(look(params, views))[1]

    def apply(params, memory, views):
        return loss.apply({}, memory, look(params, views))

    return Objective(init, apply)
