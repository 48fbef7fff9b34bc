"""Variational information distillation (VID)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, filled, term
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated

SMALLEST = 1e-5


@validated
def vid(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    hidden: int = 0,
    variance: Positive = 5.0,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Variational information distillation (VID): Gaussian regression of the teacher's features, learned variances.

    Formula: (1 / D) Σ_i [(t_i − μ(s)_i)² / σ²_c + log σ²_c] / 2, σ²_c = softplus(a_c) + 1e-5, μ three linear layers

    Args:
        student: path of the student's features [b, ..., c].
        teacher: path of the teacher's features [b, ..., d], of the same size except for the channels.
        hidden: width of the regressor's two hidden layers; 0 uses the teacher's width.
        variance: initial σ².
        weight: loss weight.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with the regressor and one a per channel as parameters.

    Topic: features
    Compares: features
    Extra: trains a regressor (on maps 1×1 convolutions) and a variance per channel
    Source: Ahn et al., Variational Information Distillation for Knowledge Transfer, 2019,
        https://arxiv.org/abs/1904.05835
    Differs: mdistiller does not train the variances; here they are trained, as in the paper

    Example:
        >>> regressed = vid(student="student.features.image", teacher="teacher.features.image")
    """
    nll = term(losses.vid, mean="vid.mean", variance="vid.variance", teacher=teacher, weight=weight, where=where)

    def regressor(outputs):
        width = outputs[teacher].shape[-1]
        return _Regressor((hidden or width, hidden or width, width))

    def regressed(params, outputs):
        mean = regressor(outputs).apply({"params": params["regressor"]}, filled(outputs, student, where))
        return outputs.add(vid={"mean": mean, "variance": jax.nn.softplus(params["scale"]) + SMALLEST})

    def init(outputs):
        start = math.log(math.expm1(variance - SMALLEST))
        regressor_variables = regressor(outputs).init(outputs.ctx.key, outputs[student])
        params = {"regressor": regressor_variables["params"], "scale": jnp.full(outputs[teacher].shape[-1], start)}
        return params, nll.init(outputs)[1]

    def apply(params, state, outputs):
        return nll.apply({}, state, regressed(params, outputs))

    return Objective(init, apply)


class _Regressor(nn.Module):
    """Bias-free linear layers on the last axis, with ReLU between them."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... d"]:
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, use_bias=False)(nn.relu(x) if i else x)
        return x
