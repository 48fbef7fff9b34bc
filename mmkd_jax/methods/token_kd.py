"""Distillation of sequence labelling, token by token."""

from mmkd_jax.arguments import held
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Positive, Share
from mmkd_jax.objective import Objective, combine, masks, term


@held
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
    """Token-level distillation of sequence labelling: labels and the teacher at each token that is there.

    Formula: (1 − α) CE(y_i, q_i) + α T² KL(p_i ‖ q_i), the mean over all tokens under the masks

    It is nothing but two terms whose `where` names the mask of tokens:
    `term(losses.kl, student=…, teacher=…, where=("text.mask", "labelled"))`.

    Args:
        student: path of the student's logits [b, l, c].
        teacher: path of the teacher's logits [b, l, c].
        labels: path of the tokens' labels [b, l]; padding has one in 0 … c − 1, too.
        mask: name of the batch's mask of tokens [b, l].
        alpha: α; the terms' weights `data.weight` and `soft.weight` start from it.
        temperature: T of the soft term.
        where: further mask(s) of the batch, of rows or tokens.

    Returns:
        An objective without parameters.

    Topic: structure
    Compares: logits of tokens
    Extra: none
    Source: Wang et al., Structure-Level Knowledge Distillation For Multilingual Sequence Labeling, 2020,
        https://arxiv.org/abs/2004.03846
    Differs: the paper, whose baseline this is, sums over the tokens of a sentence

    Example:
        >>> tags = token_kd(labels="batch.tags", temperature=2.0)
    """
    both = masks(mask, where)
    return combine(
        data=term(cross_entropy, logits=student, labels=labels, weight=1 - alpha, where=both),
        soft=term(kl, student=student, teacher=teacher, temperature=temperature, weight=alpha, where=both),
    )
