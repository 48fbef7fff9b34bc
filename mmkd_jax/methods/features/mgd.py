"""Masked generative distillation (MGD)."""

from typing import Literal

import flax.linen as nn
import jax
import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError
from mmkd_jax.nn.conv import Conv
from mmkd_jax.typing import Scalar, Share
from mmkd_jax.validation import validated


@validated
def mgd(
    *,
    student: str,
    teacher: str,
    masked: Share = 0.5,
    unit: Literal["places", "channels"] = "places",
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Masked generative distillation (MGD): generate the teacher's feature map from the student's randomly masked one.

    Formula: Σ_i (t_i − G(m ⊙ A(s))_i)², m ~ Bernoulli(1 − λ), G two 3×3 convolutions with a ReLU between, A a 1×1
        convolution

    Args:
        student: path of the student's feature map [b, h, w, c].
        teacher: path of the teacher's feature map [b, h, w, d].
        masked: λ, the masking probability.
        unit: masking unit: "places" (positions), as in the paper, or "channels".
        weight: loss weight; the authors use 7e-5 for classification, 2e-5 for detection.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with G and, if the channels differ, A as parameters. The random masks depend on step and example.

    Topic: features
    Compares: feature maps of the same size
    Extra: trains the generation block, and a 1×1 convolution if the channels differ
    Source: Yang et al., Masked Generative Distillation, 2022, https://arxiv.org/abs/2205.01529
    Differs: the authors' code masks 0.15 of the channels for classification (unit="channels"), and positions for
        detection

    Example:
        >>> generated = mgd(student="student.hidden.image.1", teacher="teacher.hidden.image.1", weight=7e-5)
    """

    def generated(outputs):
        width = outputs[teacher].shape[-1]
        align = {} if outputs[student].shape[-1] == width else {"student": nn.Dense(width)}
        paths = {"student": student, "teacher": teacher, "mask": "mgd.mask", "block": "mgd.block"}
        return term(losses.mgd, **paths, connect=align, weight=weight, where=where)

    def add_mask(params, share, outputs):
        _b, *places, d = outputs[teacher].shape
        shape = tuple(places) if unit == "places" else (d,)
        sample_mask = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(outputs.ctx.key, i), 1 - share, shape))
        block = tuple(params[layer][k] for layer in ("first", "second") for k in ("kernel", "bias"))
        return outputs.add(mgd={"mask": sample_mask(outputs["batch.example_id"]), "block": block})

    def init(outputs):
        if len(shape := outputs[teacher].shape) != 4:
            raise UserError(f"mgd: {teacher} is {list(shape)}; expected a feature map [b, h, w, c]")
        conv = Conv(outputs[teacher].shape[-1], (3, 3))
        params = {n: conv.init(outputs.ctx.at(n).key, outputs[teacher])["params"] for n in ("first", "second")}
        aligned, state = generated(outputs).init(outputs)
        state["hyperparams"]["masked"] = np.float32(masked)
        return params | {"align": aligned}, state

    def apply(params, state, outputs):
        hyperparams = dict(state["hyperparams"])
        share = hyperparams.pop("masked")
        inner = state | {"hyperparams": hyperparams}
        out, new_state = generated(outputs).apply(params["align"], inner, add_mask(params, share, outputs))
        return out, new_state | {"hyperparams": state["hyperparams"]}

    return Objective(init, apply)
