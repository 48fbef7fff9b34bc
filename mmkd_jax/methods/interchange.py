"""Interchange intervention distillation: swap one intermediate, and the answers must change alike."""

import dataclasses

import jax
import jax.numpy as jnp

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.objective import Objective, masks, term
from mmkd_jax.views import output_of


@held
def interchange(
    path: str | dict[str, str] | tuple[str | dict[str, str], ...],
    *,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    temperature: Positive = 1.0,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Swap one or several intermediates for other examples' in both models, and pull their answers together.

    Formula: KL(teacher(x; h₁ ← h₁(x¹), …) ‖ student(x; h₁ ← h₁(x¹), …)), xⁱ the row i places before in the global batch

    The gradient flows through what the student swaps in, too. One intermediate that is the only way to the output of
    both makes it KL on x¹; of the student alone, the student is to answer for what only the teacher sees.

    Args:
        path: name of the intermediate, such as "features.image"; a dict model name -> name where they differ. A tuple
            of these swaps several at once, each with the value on a source of its own.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits.
        temperature: of the KL.
        weight: of the term.
        where: mask(s) of the batch; a row counts only if its sources are valid and under the masks, too.

    Returns:
        An objective without parameters; it runs each model once more for each source, and once with all swapped in.

    Raises:
        UserError: a model has no such output, or a batch has no more rows than there are sources.

    Topic: structure
    Compares: logits after an intervention
    Extra: two further passes of each model; with several sources, one more for each
    Source: Wu et al., Causal Distillation for Language Models (DIITO), 2022, https://arxiv.org/abs/2112.02505
    Differs: a whole intermediate is swapped; the authors swap a drawn share of the positions of tokens, and may pull
        the hidden states after the swap together, too

    Example:
        >>> causal = interchange("features.image", temperature=2.0)
    """
    several = path if isinstance(path, tuple) else (path,)
    swaps = [p if isinstance(p, dict) else {student: p, teacher: p} for p in several]
    if wrong := [p for p in swaps if set(p) != {student, teacher}]:
        raise UserError(f"interchange: path names {choices(wrong[0])}; expected {student} and {teacher}")
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

        def before(x, places):
            everyone, first = gather(x, axis)
            if len(everyone) <= places:
                raise UserError(f"interchange: {places} sources need more than {len(everyone)} rows in a batch")
            return jax.lax.dynamic_slice_in_dim(jnp.roll(everyone, places, 0), first, rows)

        sources = [{k: before(x, i) for k, x in batch.items()} for i in range(1, len(swaps) + 1)]
        told = {k: batch[k] for k in ("valid", *masks(where)) if k in batch}
        for source in sources:
            told = {k: x & source[k] for k, x in told.items()}

        def run(model):
            patch = {}
            for source, names in zip(sources, swaps, strict=True):
                elsewhere, name = views.run[model](source), names[model]
                found = output_of(elsewhere, name, model)
                patch[name] = found if model == student else jax.lax.stop_gradient(found)
            return views.run[model](batch, patch=patch)

        after = views.add(swapped_student=run(student), swapped_teacher=run(teacher))
        return dataclasses.replace(after, batch={**batch, **told})

    def init(views):
        return soft.init(swapped(views))

    def apply(params, memory, views):
        return soft.apply(params, memory, swapped(views))

    return Objective(init, apply)
