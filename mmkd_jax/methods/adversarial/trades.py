"""TRADES adversarial training."""

import jax
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.inner_attack import under_attack
from mmkd_jax.core.objective import Objective, combine, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.typing import NotNegative
from mmkd_jax.validation import validated


@validated
def trades(
    at: str,
    *,
    attack: PGD = PGD(),
    beta: NotNegative = 6.0,
    student: str = "student",
    output: str = "logits",
    labels: str = "batch.label",
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """TRADES: adversarial training with clean cross-entropy and clean-to-attacked consistency; no teacher.

    Formula: CE(S(x), y) + β KL(S(x) ‖ S(x')), x' = argmax over ‖x' − x‖ ≤ ε of KL(S(x) ‖ S(x'))

    Args:
        at: name of the input to attack; uint8 is scaled to [0, 1]. Or name of a student output, such as "hidden.text.0"
            (the token embeddings).
        attack: radius, step size, number of steps, norm and input range of the attack, which starts from normal
            noise × 1e-3.
        beta: β, weight of the second term.
        student: name of the trained model.
        output: name of the logits output.
        labels: path of the class labels.
        mask: name of a batch mask, such as "text.mask"; positions outside it are not attacked.
        where: batch mask(s) of the rows of the first term; the second needs no labels.

    Returns:
        A parameter-free objective with `steps + 2` extra passes of the student; the attack runs it with train=False.
        Both sides of the second term get a gradient.

    Topic: adversarial
    Compares: logits on clean and attacked inputs; labels
    Extra: steps + 2 further passes of the student
    Source: Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, 2019,
        https://arxiv.org/abs/1901.08573

    Example:
        >>> robust = trades("image", attack=PGD(eps=4 / 255, steps=3), where="labelled")
    """
    clean = f"{student}.{output}"

    def moved(attacked: Float[Array, "*n c"], clean: Float[Array, "*n c"]) -> Float[Array, "*n"]:
        return losses.kl(attacked, clean)

    terms = combine(
        task=term(losses.cross_entropy, logits=clean, labels=labels, where=where),
        stable=term(moved, attacked=f"attacked.{output}", clean=clean, weight=beta),
    )

    def disagreement(outputs, attacked, _):
        clean_outputs = outputs.run[student](outputs.batch, train=False)  # eval mode on both sides; hoisted by XLA
        logits = output_of(clean_outputs, output, student)
        return losses.kl(output_of(attacked, output, student), jax.lax.stop_gradient(logits))

    return under_attack(
        terms,
        disagreement,
        at,
        attack=attack,
        start="normal",
        mask=mask,
        student=student,
    )
