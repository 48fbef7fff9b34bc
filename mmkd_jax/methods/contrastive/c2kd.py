"""Customized cross-modal knowledge distillation (C2KD)."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import Objective, combine, filled, mask_of, term
from mmkd_jax.losses._kendall import kendall
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.logits.non_target_kl import non_target_kl
from mmkd_jax.methods._module import apply_module, init_module
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def c2kd(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    output: str = "logits",
    labels: str = "batch.label",
    threshold: Scalar = 0.0,
    target: Literal["removed", "zero"] = "removed",
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Customized cross-modal distillation (C2KD): bidirectional, through proxies, on rows with similar class rankings.

    Formula: Σ over both sides of KL(z ‖ ẑ) + KL(ẑ ‖ z) + [τ(ŝ, t̂) > θ] KL(other side's proxy ‖ ẑ) without class y; z
        the model's logits, ẑ its proxy's, τ Kendall's; the left argument of each KL gets no gradient

    A proxy is a head on the embedding: linear, BatchNorm, leaky ReLU, linear. For bidirectional distillation, as in the
    paper, train the teacher, too (`mmkd.Trained`), each with its task loss; a frozen teacher still has a trained proxy
    that adapts to the student's.

    Args:
        student: path of the student's embedding, [b, d].
        teacher: path of the teacher's embedding, of another modality, [b, e].
        output: name of the logits output of both models.
        labels: path of the class labels.
        threshold: θ, from −1 (selects almost all rows) to 1 (selects none).
        target: treatment of class y in the third term, as in `losses.non_target_kl`.
        weight: weight of each term, a number or a schedule.
        where: batch mask(s) of the labeled rows.

    Returns:
        An objective with the terms `learn` (proxy follows its model), `follow` (model follows its proxy) and `across`
        (proxy follows the other side's) under both `student` and `teacher`. Rows that are not selected are 0 in
        `across`.

    Topic: contrastive
    Compares: logits of both sides and of their proxies, labels
    Extra: trains a proxy per side; keeps their BatchNorm statistics
    Source: Huo et al., C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation, 2024,
        https://openreview.net/forum?id=DokVWcKlyc
    Differs: the authors' code has target="zero"

    Example:
        >>> both_ways = c2kd(where="labelled", threshold=0.2)
    """
    paths = {"student": student, "teacher": teacher}
    logits = {side: f"{path.partition('.')[0]}.{output}" for side, path in paths.items()}
    objectives = {}
    for side, other in (("student", "teacher"), ("teacher", "student")):
        proxy_path, common = f"proxy.{side}", {"weight": weight, "where": where}
        arguments: dict[str, Any] = {"student": proxy_path, "teacher": f"proxy.{other}", "labels": labels}
        objectives[side] = combine(
            learn=term(kl, student=proxy_path, teacher=logits[side], **common),
            follow=term(kl, student=logits[side], teacher=proxy_path, **common),
            across=term(non_target_kl, **arguments, target=target, **common),
        )
    terms = combine(**objectives)

    def proxy(outputs, side):
        return Proxy(outputs[paths[side]].shape[-1], outputs[logits[side]].shape[-1])

    def proxies(params, state, outputs):
        ctx, heads, new_state = outputs.ctx._replace(where=mask_of(outputs, where)), {}, {}
        for side, path in paths.items():
            inputs = (ctx.at(side), filled(outputs, path, where))
            heads[side], new_state[side] = apply_module(proxy(outputs, side), params[side], state[side], *inputs)
        return outputs.add(proxy=heads), new_state

    def init(outputs):
        heads = {side: init_module(proxy(outputs, side), outputs.ctx.at(side), outputs[p]) for side, p in paths.items()}
        params, state = ({side: head[i] for side, head in heads.items()} for i in (0, 1))
        objective_state = terms.init(proxies(params, state, outputs)[0])[1]
        return params, objective_state | {"hyperparams": {"threshold": np.float32(threshold)}, "state": state}

    def apply(params, objective_state, outputs):
        outputs, state = proxies(params, objective_state["state"], outputs)
        theta = objective_state["hyperparams"]["threshold"]
        selected = kendall(outputs["proxy.student"], outputs["proxy.teacher"]) > theta
        no_params = {side: {name: {} for name in objective_state[side]} for side in paths}
        out, inner = terms.apply(no_params, {side: objective_state[side] for side in paths}, outputs)
        for side in paths:
            across = out[side]["across"]
            out[side]["across"] = across._replace(values=jnp.where(selected, across.values, 0))
        return out, objective_state | inner | {"state": state}

    return Objective(init, apply)


class Proxy(nn.Module):
    """Proxy classification head: linear, BatchNorm, leaky ReLU, linear.

    Attributes:
        width: width of the hidden layer.
        classes: number of classes.
    """

    width: int
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], ctx: StepContext) -> Float[Array, "b c"]:
        x = jax.nn.leaky_relu(Linear(self.width, batch_norm=True)(x, ctx), 0.1)
        return nn.Dense(self.classes)(x)
