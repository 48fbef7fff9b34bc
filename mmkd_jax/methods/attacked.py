"""The student, and where a method asks for it the teacher, on inputs that an inner attack has found."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from mmkd_jax import attacks
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.number import Number
from mmkd_jax.methods.numbered import numbered
from mmkd_jax.modalities import unit
from mmkd_jax.objective import Objective
from mmkd_jax.views import Batch, Outputs


def under_attack(
    terms: Objective,
    inner: Callable[..., Any],
    at: str,
    *,
    eps: Number,
    step_size: Number,
    steps: int,
    norm: Literal["linf", "l2"],
    low: float | None,
    high: float | None,
    mask: str | None,
    start: Literal["normal", "uniform"],
    student: str,
    teacher: str | None = None,
) -> Objective:
    """Find x' = argmax over ‖x' − x‖ ≤ ε of an inner function; the views gain the student's outputs there, `attacked`.

    Args:
        terms: the outer objective; it reads `attacked.NAME`, and `guide.NAME` if there is a teacher.
        inner: `(views, attacked, guide) -> values` [b] of the outputs on x', to be made large; guide is None without
            a teacher.
        at: name of an input of the batch, or else of an output of the student, which is then patched.
        eps: radius, in units of x.
        step_size: in units of x.
        steps: of the attack.
        norm: of the ball.
        low: smallest value of an input; an output has no bounds.
        high: largest value of an input.
        mask: name of a mask of the batch, such as "text.mask": what stands outside is left as it is.
        start: a thousandth of a standard normal, or uniform in [−ε, ε]; each row has its own.
        student: name of the attacked model.
        teacher: name of a model that is run on x', too, as `guide`.

    Returns:
        An objective; the attack runs the student with train=False, what it found is shown with train as it is.

    Raises:
        UserError: there is nothing of that name; or a teacher is to see an intermediate value of the student.
    """

    def clean(views):
        if student not in views.outputs:
            raise UserError(f"no model {student!r} to attack; there are: {choices(views.outputs)}")
        x = attackable(views.batch, views.outputs[student], at, student)
        if at not in views.batch and teacher is not None:
            raise UserError(f"attack at {at!r}: {teacher!r} cannot see an output of {student!r}; attack an input")
        views.record(views.scope, f"batch.{at}" if at in views.batch else f"{student}.{at}")
        return x

    def attacked(views, numbers):
        x = clean(views)
        inside = jnp.ones((), bool) if mask is None else views["batch." + mask]
        inside = inside.reshape(inside.shape + (1,) * (x.ndim - inside.ndim))
        ids, key = views["batch.example_id"], views.ctx.key
        if start == "normal":
            first = 1e-3 * attacks.row_noise(key, ids, x.shape[1:])
        else:
            first = numbers["eps"] * attacks.row_noise(key, ids, x.shape[1:], uniform=True)

        def run(x, **options):
            batch, patch = shown(views.batch, at, x)
            outputs = views.run[student](batch, patch=patch, **options)
            return outputs, views.run[teacher](batch) if teacher else None

        found = attacks.pgd(
            lambda moved: inner(views, *run(jnp.where(inside, moved, x), train=False)),
            x,
            eps=numbers["eps"],
            step_size=numbers["step_size"],
            steps=steps,
            norm=norm,
            start=jnp.where(inside, first, 0).astype(x.dtype),
            low=low if at in views.batch else None,
            high=high if at in views.batch else None,
        )
        found = jnp.where(inside, found, x)  # clipping would move what lies outside
        if at not in views.batch:  # an output is moved, not replaced: what gives it learns, too
            found = views.outputs[student][at] + jax.lax.stop_gradient(found - x)
        outputs, guide = run(found)
        return views.add(attacked=outputs, **({"guide": guide} if teacher else {}))

    return numbered(terms, attacked, eps=eps, step_size=step_size)


def attackable(batch: Batch, outputs: Outputs, at: str, model: str) -> jax.Array:
    """What an attack moves: an input, uint8 read as [0, 1], or else an output of the model.

    Args:
        batch: that the model saw.
        outputs: of the model.
        at: name of an input or of an output.
        model: its name.

    Raises:
        UserError: there is nothing of that name, or it is no continuous value.

    Example:
        >>> attackable({"image": jnp.array([51], jnp.uint8)}, {}, "image", "student")
        Array([0.2], dtype=float32)
    """
    if at in batch:
        x = batch[at]
        if x.dtype != jnp.uint8 and not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(
                f"attack at {at!r}: {x.dtype} cannot be moved a little; attack an output of {model!r} in its "
                f"place: {choices(outputs)}"
            )
        return unit(x)
    if at not in outputs:
        raise UserError(
            f"attack at {at!r}: neither the batch nor {model!r} has it; there are: {choices([*batch, *outputs])}"
        )
    return jax.lax.stop_gradient(outputs[at])


def shown(batch: Batch, at: str, x: Any) -> tuple[Batch, Outputs]:
    """The batch and the patch with which a model sees x in the place of `at`.

    Example:
        >>> shown({"image": 1}, "image", 2), shown({"image": 1}, "features.image", 2)
        (({'image': 2}, {}), ({'image': 1}, {'features.image': 2}))
    """
    return ({**batch, at: x}, {}) if at in batch else (batch, {at: x})
