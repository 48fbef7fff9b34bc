"""Variational information distillation, with its regressor and its variances."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.objective import Objective, term

SMALLEST = 1e-5


@held
def vid(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    hidden: int = 0,
    variance: Positive = 5.0,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Variational information distillation (VID): regress the teacher's features, with a trained variance per channel.

    Formula: (1 / D) Σ_i [(t_i − μ(s)_i)² / σ²_c + log σ²_c] / 2, σ²_c = softplus(a_c) + 1e-5, μ three linear layers

    Args:
        student: path of the student's features [b, ..., c].
        teacher: path of the teacher's features [b, ..., d], of the same size but for the channels.
        hidden: width of the regressor's two hidden layers; the teacher's if 0.
        variance: with which σ² starts.
        weight: of the term.
        where: mask(s) of the batch.

    Returns:
        An objective with the regressor and one a per channel as parameters.

    Topic: features
    Compares: features
    Extra: trains a regressor (on maps 1×1 convolutions) and a variance per channel
    Source: Ahn et al., Variational Information Distillation for Knowledge Transfer, 2019, https://arxiv.org/abs/1904.05835
    Differs: mdistiller leaves the variances out of what it trains; here they move, as in the paper

    Example:
        >>> regressed = vid(student="student.features.image", teacher="teacher.features.image")
    """
    surprise = term(losses.vid, mean="vid.mean", variance="vid.variance", teacher=teacher, weight=weight, where=where)

    def regressor(views):
        width = views[teacher].shape[-1]
        return _Regressor((hidden or width, hidden or width, width))

    def regressed(params, views):
        mean = regressor(views).apply({"params": params["regressor"]}, views[student])
        return views.add(vid={"mean": mean, "variance": jax.nn.softplus(params["scale"]) + SMALLEST})

    def init(views):
        start = math.log(math.expm1(variance - SMALLEST))
        made = regressor(views).init(views.ctx.key, views[student])
        params = {"regressor": made["params"], "scale": jnp.full(views[teacher].shape[-1], start)}
        return params, surprise.init(views)[1]

    def apply(params, memory, views):
        return surprise.apply({}, memory, regressed(params, views))

    return Objective(init, apply)


class _Regressor(nn.Module):
    """Linear maps of the last axis without biases, ReLU between them."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... d"]:
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, use_bias=False)(nn.relu(x) if i else x)
        return x
