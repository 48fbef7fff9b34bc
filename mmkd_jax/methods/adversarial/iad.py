"""Introspective adversarial distillation (IAD)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmkd_jax import losses
from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.inner_attack import under_attack
from mmkd_jax.core.objective import Objective, combine, filled, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.typing import NotNegative, Positive, Scalar, Share
from mmkd_jax.validation import validated


@validated
def iad(
    at: str,
    *,
    attack: PGD = PGD(),
    alpha: Share = 1.0,
    beta: NotNegative = 0.1,
    temperature: Positive = 1.0,
    introspection: NotNegative | Callable = 1.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    labels: str = "batch.label",
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Introspective adversarial distillation (IAD): follow the teacher only as far as it resists the attack.

    Formula: (1 − α) CE(S(x), y) + α [q T² KL(T(x) ‖ S(x')) + (1 − q) KL(S(x) ‖ S(x'))], q = T(x')_y^β

    Args:
        at: name of the input to attack; uint8 is scaled to [0, 1].
        attack: radius, step size, number of steps, norm and input range of the attack, which starts from uniform
            noise within the radius.
        alpha: share of the attacked terms.
        beta: β, how fast q falls with the teacher's probability of the label on the attacked input.
        temperature: T of the teacher term.
        introspection: factor of the last term, a number or a schedule; a schedule starting at 0 disables it while the
            student is still untrained.
        student: name of the trained model.
        teacher: name of the frozen model; it runs on the attacked input and cannot be cached.
        output: name of the logits output.
        labels: path of the class labels.
        mask: name of a batch mask, such as "text.mask"; positions outside it are not attacked.
        where: batch mask(s) of the rows that count; must exclude unlabeled rows, because the attack reads the labels.

    Returns:
        A parameter-free objective with `steps + 1` extra passes of the student, in the attack with train=False, and one
        of the teacher. The attack maximizes CE(S(x'), y). The trust q gets no gradient; both sides of the last term do.

    Topic: adversarial
    Compares: logits on clean and attacked inputs; labels
    Extra: steps + 1 further passes of the student, one of the teacher
    Source: Zhu et al., Reliable Adversarial Distillation with Unreliable Teachers, 2022,
        https://arxiv.org/abs/2106.04928
    Differs: the authors' code omits q from the teacher term and attacks the student in training mode

    Example:
        >>> robust = iad("image", attack=PGD(eps=4 / 255, steps=3), where="labelled")
    """
    clean = f"{student}.{output}"

    def trust(guide, labels, beta):
        probability = jax.nn.softmax(guide.astype(jnp.float32), -1)
        of_label = jnp.take_along_axis(probability, labels[..., None], -1)[..., 0]
        return jax.lax.stop_gradient(of_label ** jnp.asarray(beta, of_label.dtype))

    def follow(
        attacked: Float[Array, "*n c"],
        teacher: Float[Array, "*n c"],
        guide: Float[Array, "*n c"],
        labels: Int[Array, "*n"],
        *,
        temperature: Scalar,
        beta: Scalar,
    ) -> Float[Array, "*n"]:
        return trust(guide, labels, beta) * losses.kl(attacked, teacher, temperature=temperature)

    def introspect(
        attacked: Float[Array, "*n c"],
        clean: Float[Array, "*n c"],
        guide: Float[Array, "*n c"],
        labels: Int[Array, "*n"],
        *,
        beta: Scalar,
    ) -> Float[Array, "*n"]:
        return (1 - trust(guide, labels, beta)) * losses.kl(attacked, clean)

    scale: Any = introspection
    factor = (lambda step: alpha * scale(step)) if callable(scale) else alpha * scale
    shared = {"attacked": f"attacked.{output}", "guide": f"guide.{output}", "labels": labels, "beta": beta}
    terms = combine(
        task=term(losses.cross_entropy, logits=clean, labels=labels, weight=1 - alpha, where=where),
        follow=term(
            follow, teacher=f"{teacher}.{output}", temperature=temperature, weight=alpha, where=where, **shared
        ),
        introspect=term(introspect, clean=clean, weight=factor, where=where, **shared),
    )

    def attack_loss(outputs, attacked, _):
        return losses.cross_entropy(output_of(attacked, output, student), filled(outputs, labels, where))

    return under_attack(
        terms,
        attack_loss,
        at,
        attack=attack,
        start="uniform",
        mask=mask,
        student=student,
        teacher=teacher,
    )
