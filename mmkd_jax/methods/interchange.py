"""Interchange intervention distillation: swap one intermediate, and the answers must change alike."""

import dataclasses

import jax
import jax.numpy as jnp

from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Number
from mmkd_jax.objective import Objective, term


def interchange(
    path: str | dict[str, str],
    *,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    temperature: Number = 1.0,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Swap one intermediate for another example's in both models, and pull their answers together.

    Formula: KL(teacher(x; h ← h(x')) ‖ student(x; h ← h(x'))), x' the previous row of the global batch. No gradient
    flows through the swapped-in value. On an intermediate that is the only way to the output this is KL on x'.

    Args:
        path: name of the intermediate, such as "features.image"; a dict model name -> name where they differ.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits.
        temperature: of the KL.
        weight: of the term.
        where: mask(s) of the batch; a row counts only if its partner is valid, too.

    Returns:
        An objective without parameters; it runs each model twice more.

    Topic: structure
    Compares: logits after an intervention
    Extra: two further passes of each model
    Source: Wu et al., Causal Distillation for Language Models (DIITO), 2022, https://arxiv.org/abs/2112.02505

    Example:
        >>> causal = interchange("features.image", temperature=2.0)
    """
    names = path if isinstance(path, dict) else {student: path, teacher: path}
    soft = term(
        kl,
        student=f"swapped_student.{output}",
        teacher=f"swapped_teacher.{output}",
        temperature=temperature,
        weight=weight,
        where=where,
    )

    def swapped(views):
        batch, axis = views.batch, views.ctx.axis
        rows = len(batch["example_id"])

        def partner(x):
            everyone, first = gather(x, axis)
            return jax.lax.dynamic_slice_in_dim(jnp.roll(everyone, 1, 0), first, rows)

        source = jax.tree.map(partner, dict(batch))
        both = {"valid": batch["valid"] & source["valid"]} if "valid" in batch else {}

        def run(model):
            elsewhere, name = views.run[model](source, train=False), names[model]
            if name not in elsewhere:
                raise UserError(f"interchange: model {model!r} has no output {name!r}; it has: {choices(elsewhere)}")
            return views.run[model](batch, patch={name: jax.lax.stop_gradient(elsewhere[name])}, train=False)

        after = views.add(swapped_student=run(student), swapped_teacher=run(teacher))
        return dataclasses.replace(after, batch={**batch, **both})

    def init(views):
        return soft.init(swapped(views))

    def apply(params, memory, views):
        return soft.apply(params, memory, swapped(views))

    return Objective(init, apply)
