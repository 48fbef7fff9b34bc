"""Introspective adversarial distillation: the student trusts the teacher as far as that resists the attack."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Count, NotNegative, Number, Positive, Share
from mmkd_jax.methods.attacked import under_attack
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.views import output_of


@held
def iad(
    at: str,
    *,
    eps: NotNegative = 8 / 255,
    step_size: NotNegative = 2 / 255,
    steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    alpha: Share = 1.0,
    beta: NotNegative = 0.1,
    temperature: Positive = 1.0,
    introspection: NotNegative | Callable = 1.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    labels: str = "batch.label",
    low: float | None = 0.0,
    high: float | None = 1.0,
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Introspective adversarial distillation (IAD): where the teacher fails under attack, the student asks itself.

    Formula: (1 − α) CE(S(x), y) + α [q T² KL(T(x) ‖ S(x')) + (1 − q) KL(S(x) ‖ S(x'))], q = T(x')_y^β

    Args:
        at: name of the attacked input, whose uint8 is read as [0, 1].
        eps: radius of the attack, in units of the input.
        step_size: of the attack, in units of the input.
        steps: of the attack.
        norm: of the ball.
        alpha: share of the attacked terms.
        beta: β: how fast trust falls with the teacher's probability of the label on the attacked input.
        temperature: T, of the term that follows the teacher.
        introspection: factor of the last term; a schedule that is 0 at first spares a student that knows nothing yet.
        student: name of the trained model.
        teacher: name of the frozen model; it is run on the attacked input and cannot be cached.
        output: name of the logits.
        labels: path of the labels.
        low: smallest input value; None is unbounded.
        high: largest input value; None is unbounded.
        mask: name of a mask of the batch, such as "text.mask": what stands outside is not attacked.
        where: mask(s) of the batch; rows without a label must be left out, as the attack reads it.

    Returns:
        An objective without parameters; it runs the student `steps + 1` times more, in the attack with train=False, and
        the teacher once. The attack maximises CE(S(x'), y). The trust q gets no gradient, both sides of the last term
        do.

    Topic: adversarial
    Compares: logits on clean and attacked inputs; labels
    Extra: steps + 1 further passes of the student, one of the teacher
    Source: Zhu et al., Reliable Adversarial Distillation with Unreliable Teachers, 2022, https://arxiv.org/abs/2106.04928
    Differs: the authors' code leaves q out of the term that follows the teacher, and attacks the student as in training

    Example:
        >>> robust = iad("image", eps=4 / 255, steps=3, where="labelled")
    """
    clean = f"{student}.{output}"

    def trust(guide, labels, beta):
        probability = jax.nn.softmax(guide.astype(jnp.float32), -1)
        own = jnp.take_along_axis(probability, labels[..., None], -1)[..., 0]
        return jax.lax.stop_gradient(own ** jnp.asarray(beta, own.dtype))

    def follow(attacked, teacher, guide, labels, *, temperature: Number, beta: Number):
        return trust(guide, labels, beta) * losses.kl(attacked, teacher, temperature=temperature)

    def introspect(attacked, clean, guide, labels, *, beta: Number):
        return (1 - trust(guide, labels, beta)) * losses.kl(attacked, clean)

    own: Any = introspection
    factor = (lambda step: alpha * own(step)) if callable(own) else alpha * own
    shared = {"attacked": f"attacked.{output}", "guide": f"guide.{output}", "labels": labels, "beta": beta}
    terms = combine(
        task=term(losses.cross_entropy, logits=clean, labels=labels, weight=1 - alpha, where=where),
        follow=term(
            follow, teacher=f"{teacher}.{output}", temperature=temperature, weight=alpha, where=where, **shared
        ),
        introspect=term(introspect, clean=clean, weight=factor, where=where, **shared),
    )

    def wrong(views, attacked, _):
        return losses.cross_entropy(output_of(attacked, output, student), views[labels])

    return under_attack(
        terms,
        wrong,
        at,
        eps=eps,
        step_size=step_size,
        steps=steps,
        norm=norm,
        low=low,
        high=high,
        mask=mask,
        start="uniform",
        student=student,
        teacher=teacher,
    )
