"""C2KD: two modalities teach each other through proxies, where they rank the classes alike."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.losses.kendall import kendall
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.logits.non_target_kl import non_target_kl
from mmkd_jax.losses.number import Number
from mmkd_jax.methods import learned
from mmkd_jax.objective import Objective, combine, mask_of, term
from mmkd_jax.views import Context


@held
def c2kd(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    output: str = "logits",
    labels: str = "batch.label",
    threshold: Number = 0.0,
    target: Literal["removed", "zero"] = "removed",
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Customised cross-modal distillation (C2KD): between proxies, of the other classes, in rows that both rank alike.

    Formula: Σ over both sides of KL(z ‖ ẑ) + KL(ẑ ‖ z) + [τ(ŝ, t̂) > θ] KL(other side's proxy ‖ ẑ) without class y; z
    the model's answer, ẑ its proxy's, τ Kendall's; the left argument of each KL gets no gradient

    A proxy is a head on the embedding: linear, BatchNorm, leaky ReLU, linear. For distillation both ways, as in the
    paper, train the teacher, too (`trained=("student", "teacher")`), both with their task; a frozen one still has a
    proxy that meets the student's halfway.

    Args:
        student: path of the student's embedding, [b, d].
        teacher: path of the teacher's embedding, of another modality, [b, e].
        output: name of the logits of both.
        labels: path of the labels.
        threshold: θ, from −1 (nearly all rows) to 1 (none).
        target: what becomes of class y in the third part, as in `losses.non_target_kl`.
        weight: of each part, a number or a schedule.
        where: mask(s) of the batch: the rows that have a label.

    Returns:
        An objective with the terms `learn` (the proxy follows its model), `follow` (the model its proxy) and `across`
        (the proxy the other side's) under `student` and `teacher`. Rows that are not selected are 0 in `across`.

    Topic: contrastive
    Compares: logits of both sides and of their proxies, labels
    Extra: trains a proxy a side; remembers their BatchNorm statistics
    Source: Huo et al., C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation, 2024,
        https://openreview.net/forum?id=DokVWcKlyc
    Differs: the authors' code has target="zero"

    Example:
        >>> both_ways = c2kd(where="labelled", threshold=0.2)
    """
    paths = {"student": student, "teacher": teacher}
    answers = {side: f"{path.partition('.')[0]}.{output}" for side, path in paths.items()}
    parts = {}
    for side, other in (("student", "teacher"), ("teacher", "student")):
        own, more = f"proxy.{side}", {"weight": weight, "where": where}
        arguments: dict[str, Any] = {"student": own, "teacher": f"proxy.{other}", "labels": labels}
        parts[side] = combine(
            learn=term(kl, student=own, teacher=answers[side], **more),
            follow=term(kl, student=answers[side], teacher=own, **more),
            across=term(non_target_kl, **arguments, target=target, **more),
        )
    terms = combine(**parts)

    def proxy(views, side):
        return Proxy(views[paths[side]].shape[-1], views[answers[side]].shape[-1])

    def proxies(params, state, views):
        ctx, found, after = views.ctx._replace(where=mask_of(views, where)), {}, {}
        for side, path in paths.items():
            at = ctx.at(side)
            found[side], after[side] = learned.run(proxy(views, side), params[side], state[side], at, views[path])
        return views.add(proxy=found), after

    def init(views):
        made = {side: learned.begin(proxy(views, side), views.ctx.at(side), views[p]) for side, p in paths.items()}
        params, state = ({side: m[i] for side, m in made.items()} for i in (0, 1))
        memory = terms.init(proxies(params, state, views)[0])[1]
        return params, memory | {"numbers": {"threshold": np.float32(threshold)}, "state": state}

    def apply(params, memory, views):
        here, state = proxies(params, memory["state"], views)
        alike = kendall(here["proxy.student"], here["proxy.teacher"]) > memory["numbers"]["threshold"]
        nothing = {side: {part: {} for part in memory[side]} for side in paths}
        found, inner = terms.apply(nothing, {side: memory[side] for side in paths}, here)
        for side in paths:
            across = found[side]["across"]
            found[side]["across"] = across._replace(values=jnp.where(alike, across.values, 0))
        return found, memory | inner | {"state": state}

    return Objective(init, apply)


class Proxy(nn.Module):
    """A head beside a model's own.

    Attributes:
        width: of the layer between.
        classes: number of classes.
    """

    width: int
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], ctx: Context) -> Float[Array, "b c"]:
        x = jax.nn.leaky_relu(Linear(self.width, batch_norm=True)(x, ctx), 0.1)
        return nn.Dense(self.classes)(x)
