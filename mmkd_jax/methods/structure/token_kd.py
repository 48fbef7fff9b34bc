"""Token-level knowledge distillation for sequence labeling."""

from mmkd_jax.core.objective import Objective, combine, masks, term
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.typing import Positive, Share
from mmkd_jax.validation import validated


@validated
def token_kd(
    *,
    student: str = "student.logits",
    teacher: str = "teacher.logits",
    labels: str = "batch.labels",
    mask: str = "text.mask",
    alpha: Share = 0.5,
    temperature: Positive = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Token-level knowledge distillation for sequence labeling: cross-entropy plus KL to the teacher, per token.

    Formula: (1 − α) CE(y_i, q_i) + α T² KL(p_i ‖ q_i), the mean over all tokens under the masks

    Shorthand for two terms whose `where` includes the token mask: `term(losses.kl, student=…, teacher=…,
    where=("text.mask", "labelled"))`.

    Args:
        student: path of the student's logits [b, l, c].
        teacher: path of the teacher's logits [b, l, c].
        labels: path of the token labels [b, l]; padding needs a label in 0 … c − 1, too.
        mask: name of the batch's token mask [b, l].
        alpha: α; sets the initial weights `data.weight` (1 − α) and `soft.weight` (α).
        temperature: T of the soft term.
        where: further batch mask(s), over rows or tokens.

    Returns:
        A parameter-free objective.

    Topic: structure
    Compares: token logits
    Extra: none
    Source: Wang et al., Structure-Level Knowledge Distillation For Multilingual Sequence Labeling, 2020,
        https://arxiv.org/abs/2004.03846
    Differs: the paper, which has this as its baseline, sums over the tokens of a sentence

    Example:
        >>> tags = token_kd(labels="batch.tags", temperature=2.0)
    """
    both = masks(mask, where)
    return combine(
        data=term(cross_entropy, logits=student, labels=labels, weight=1 - alpha, where=both),
        soft=term(kl, student=student, teacher=teacher, temperature=temperature, weight=alpha, where=both),
    )
