"""Interchange intervention distillation (DIITO)."""

import dataclasses

import jax
import jax.numpy as jnp

from mmkd_jax.collectives import gather
from mmkd_jax.core.masking import fill_tree
from mmkd_jax.core.objective import Objective, mask_of, masks, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def interchange(
    path: str | dict[str, str] | tuple[str | dict[str, str], ...],
    *,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    temperature: Positive = 1.0,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Interchange intervention distillation (DIITO): match the logits after swapping intermediates in both models.

    Formula: KL(teacher(x; h₁ ← h₁(x¹), …) ‖ student(x; h₁ ← h₁(x¹), …)), xⁱ the row i places earlier in the global
        batch

    The gradient also flows through the student's swapped-in values. If the swapped intermediate is the only path to the
    output of both models, the loss is plain KL on x¹; if it is the only path in the student alone, the student must
    also match what the teacher derives from its other inputs.

    Args:
        path: name of the intermediate, such as "features.image"; a dict model name -> output name if the names differ.
            A tuple of these swaps several at once, each with a value from a different source row.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits output.
        temperature: temperature of the KL.
        weight: loss weight.
        where: batch mask(s) of the rows that count; the source rows must be valid and under the masks, too.

    Returns:
        A parameter-free objective that runs each model once more per source, and once with all swaps applied.

    Raises:
        UserError: a model lacks the output, or the batch does not have more rows than there are sources.

    Topic: structure
    Compares: logits after an intervention
    Extra: two further passes of each model; one more per additional source
    Source: Wu et al., Causal Distillation for Language Models (DIITO), 2022, https://arxiv.org/abs/2112.02505
    Differs: a whole intermediate is swapped; the authors swap a random share of the token positions, and can also match
        the hidden states after the swap

    Example:
        >>> causal = interchange("features.image", temperature=2.0)
    """
    paths = path if isinstance(path, tuple) else (path,)
    swaps = [p if isinstance(p, dict) else {student: p, teacher: p} for p in paths]
    if invalid := [p for p in swaps if set(p) != {student, teacher}]:
        raise UserError(f"interchange: path names {choices(invalid[0])}; expected {student} and {teacher}")
    soft = term(
        kl,
        student=f"swapped_student.{output}",
        teacher=f"swapped_teacher.{output}",
        temperature=temperature,
        weight=weight,
        where=where,
    )

    def swapped(outputs):
        batch, axis_name = outputs.batch, outputs.ctx.axis_name
        rows = len(batch["example_id"])

        def earlier(x, places):
            all_rows, first = gather(x, axis_name)
            if len(all_rows) <= places:
                raise UserError(f"interchange: {places} sources need more than {len(all_rows)} rows in a batch")
            return jax.lax.dynamic_slice_in_dim(jnp.roll(all_rows, places, 0), first, rows)

        sources = [{k: earlier(x, i) for k, x in batch.items()} for i in range(1, len(swaps) + 1)]
        row_masks = {k: batch[k] for k in ("valid", *masks(where)) if k in batch}
        for source in sources:
            row_masks = {k: x & source[k] for k, x in row_masks.items()}

        source_rows = dataclasses.replace(outputs, batch={**batch, **row_masks})

        def run(model):
            patch = {}
            for source, names in zip(sources, swaps, strict=True):
                source_outputs, name = outputs.run[model](source), names[model]
                value = fill_tree(output_of(source_outputs, name, model), mask_of(source_rows, where))
                patch[name] = value if model == student else jax.lax.stop_gradient(value)
            return outputs.run[model](batch, patch=patch)

        added = outputs.add(swapped_student=run(student), swapped_teacher=run(teacher))
        return dataclasses.replace(added, batch=source_rows.batch)

    def init(outputs):
        return soft.init(swapped(outputs))

    def apply(params, state, outputs):
        return soft.apply(params, state, swapped(outputs))

    return Objective(init, apply)
