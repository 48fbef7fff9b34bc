"""Inner maximization of adversarial training: outputs of student, and optionally teacher, on attacked inputs."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.attacks import row_noise
from mmkd_jax.core.masking import fill_tree
from mmkd_jax.core.method_hyperparams import with_method_hyperparams
from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, ModelOutputs
from mmkd_jax.core.objective import Objective, mask_of
from mmkd_jax.errors import UserError, choices


def under_attack(
    terms: Objective,
    inner: Callable[..., Any],
    at: str,
    *,
    attack: PGD,
    start: Literal["normal", "uniform"],
    mask: str | None,
    student: str,
    teacher: str | None = None,
) -> Objective:
    """Add an inner attack to an objective: x' maximizes a function within ‖x' − x‖ ≤ ε; outputs on x' are `attacked`.

    Args:
        terms: outer objective; reads `attacked.NAME`, and `guide.NAME` if there is a teacher.
        inner: `(outputs, attacked, guide) -> values` [b], the function of the outputs on x' to maximize; guide is None
            without a teacher.
        at: name of a batch input, or else of a student output, which is then patched.
        attack: the attack; its `eps` and, if given, its `step_size` become hyperparameters of the objective.
        start: initial perturbation of each row: "normal" is standard normal × 1e-3, "uniform" is uniform in [−ε, ε].
        mask: name of a batch mask, such as "text.mask"; positions outside it are not perturbed.
        student: name of the attacked model.
        teacher: name of a model that also runs on x', as `guide`.

    Returns:
        An objective. The attack runs the student with train=False; the run on x' uses the step's own train flag.

    Raises:
        UserError: `at` or the student does not exist; or `at` is a student output, but a teacher is given.
    """

    def clean(outputs):
        if student not in outputs.by_model:
            raise UserError(f"no model {student!r} to attack; available models: {choices(outputs.by_model)}")
        x = fill_tree(attackable(outputs.batch, outputs.by_model[student], at, student), mask_of(outputs, ()))
        if at not in outputs.batch and teacher is not None:
            raise UserError(f"attack at {at!r}: {teacher!r} cannot run on an output of {student!r}; attack an input")
        outputs.record(outputs.scope, f"batch.{at}" if at in outputs.batch else f"{student}.{at}")
        return x

    def attacked(outputs, hyperparams):
        x = clean(outputs)
        current = dataclasses.replace(attack, **{k.removeprefix("attack."): x for k, x in hyperparams.items()})
        current = current if at in outputs.batch else current.unbounded()
        region = jnp.ones((), bool) if mask is None else outputs["batch." + mask]
        region = region.reshape(region.shape + (1,) * (x.ndim - region.ndim))
        ids, key = outputs["batch.example_id"], outputs.ctx.key
        if start == "normal":
            first = 1e-3 * row_noise(key, ids, x.shape[1:])
        else:
            first = current.eps * row_noise(key, ids, x.shape[1:], uniform=True)

        def run(x, **options):
            batch, patch = shown(outputs.batch, at, x)
            model_outputs = outputs.run[student](batch, patch=patch, **options)
            return model_outputs, outputs.run[teacher](batch) if teacher else None

        adversarial = current(
            lambda moved: inner(outputs, *run(jnp.where(region, moved, x), train=False)),
            x,
            start=jnp.where(region, first, 0).astype(x.dtype),
        )
        adversarial = jnp.where(region, adversarial, x)  # undo clipping outside the mask
        valid = mask_of(outputs, ())
        adversarial = fill_tree(adversarial, valid)  # in padding rows, the gradient may be NaN
        if at not in outputs.batch:  # perturb, not replace: gradients reach the layers below
            clean_output = fill_tree(outputs.by_model[student][at], valid)
            adversarial = clean_output + jax.lax.stop_gradient(adversarial - x)
        model_outputs, guide = run(adversarial)
        return outputs.add(attacked=model_outputs, **({"guide": guide} if teacher else {}))

    hyperparams = {"attack.eps": attack.eps}
    if attack.step_size is not None:
        hyperparams["attack.step_size"] = attack.step_size
    return with_method_hyperparams(terms, attacked, **hyperparams)


def attackable(batch: Batch, outputs: ModelOutputs, at: str, model: str) -> jax.Array:
    """Return the value to attack: a batch input (uint8 is scaled to [0, 1]), or else a model output.

    Args:
        batch: batch that the model ran on.
        outputs: the model's outputs.
        at: name of an input or output.
        model: name of the model, for error messages.

    Raises:
        UserError: the name does not exist, or the input is not continuous.

    Example:
        >>> attackable({"image": jnp.array([51], jnp.uint8)}, {}, "image", "student")
        Array([0.2], dtype=float32)
    """
    if at in batch:
        x = batch[at]
        if x.dtype != jnp.uint8 and not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(
                f"attack at {at!r}: {x.dtype} is not continuous; attack an output of {model!r} instead: "
                f"{choices(outputs)}"
            )
        return unit(x)
    if at not in outputs:
        raise UserError(
            f"attack at {at!r}: not found in the batch or in the outputs of {model!r}; available: "
            f"{choices([*batch, *outputs])}"
        )
    return jax.lax.stop_gradient(outputs[at])


def shown(batch: Batch, at: str, x: Any) -> tuple[Batch, ModelOutputs]:
    """Return the batch and patch with which a model runs on x in place of `at`.

    Example:
        >>> shown({"image": 1}, "image", 2), shown({"image": 1}, "features.image", 2)
        (({'image': 2}, {}), ({'image': 1}, {'features.image': 2}))
    """
    return ({**batch, at: x}, {}) if at in batch else (batch, {at: x})
