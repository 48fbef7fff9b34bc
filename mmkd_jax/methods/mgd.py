"""Masked generative distillation, with its generation block and its masks."""

from typing import Literal

import flax.linen as nn
import jax
import numpy as np

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.convolution import Conv
from mmkd_jax.errors import UserError
from mmkd_jax.losses.number import Number, Share
from mmkd_jax.objective import Objective, term


@held
def mgd(
    *,
    student: str,
    teacher: str,
    masked: Share = 0.5,
    unit: Literal["places", "channels"] = "places",
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Masked generative distillation (MGD): generate the teacher's whole map from a random part of the student's.

    Formula: Σ_i (t_i − G(m ⊙ A(s))_i)², m ~ Bernoulli(1 − λ), G two 3×3 convolutions with a ReLU between, A a 1×1 one

    Args:
        student: path of the student's feature map [b, h, w, c].
        teacher: path of the teacher's feature map [b, h, w, d].
        masked: λ, the share that is masked.
        unit: what is masked as one: "places", as in the paper, or "channels".
        weight: of the term; the authors' is 7e-5 for classification, 2e-5 for detection.
        where: mask(s) of the batch.

    Returns:
        An objective with A, where the channels differ, and G as parameters. The masks belong to step and example.

    Topic: features
    Compares: feature maps of one size
    Extra: trains a 1×1 convolution where the channels differ, and the generation block
    Source: Yang et al., Masked Generative Distillation, 2022, https://arxiv.org/abs/2205.01529
    Differs: the authors' code for classification masks 0.15 of the channels, unit="channels"; for detection places

    Example:
        >>> generated = mgd(student="student.hidden.image.1", teacher="teacher.hidden.image.1", weight=7e-5)
    """

    def generated(views):
        width = views[teacher].shape[-1]
        align = {} if views[student].shape[-1] == width else {"student": nn.Dense(width)}
        paths = {"student": student, "teacher": teacher, "mask": "mgd.mask", "block": "mgd.block"}
        return term(losses.mgd, **paths, connect=align, weight=weight, where=where)

    def look(params, share, views):
        b, *places, d = views[teacher].shape
        shape = tuple(places) if unit == "places" else (d,)
        kept = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(views.ctx.key, i), 1 - share, shape))
        block = tuple(params[layer][k] for layer in ("first", "second") for k in ("kernel", "bias"))
        return views.add(mgd={"mask": kept(views["batch.example_id"]), "block": block})

    def init(views):
        if len(shape := views[teacher].shape) != 4:
            raise UserError(f"mgd: {teacher} is {list(shape)}; expected a feature map [b, h, w, c]")
        conv = Conv(views[teacher].shape[-1], (3, 3))
        params = {n: conv.init(views.ctx.at(n).key, views[teacher])["params"] for n in ("first", "second")}
        aligned, memory = generated(views).init(views)
        memory["numbers"]["masked"] = np.float32(masked)
        return params | {"align": aligned}, memory

    def apply(params, memory, views):
        numbers = dict(memory["numbers"])
        share = numbers.pop("masked")
        inner = memory | {"numbers": numbers}
        out, after = generated(views).apply(params["align"], inner, look(params, share, views))
        return out, after | {"numbers": memory["numbers"]}

    return Objective(init, apply)
