"""Distillation of models that write, word by word."""

from mmkd_jax import rollout
from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Positive, Share
from mmkd_jax.methods.token_kd import token_kd
from mmkd_jax.objective import Objective


@held
def word_kd(
    *,
    student: str = "student.logits",
    teacher: str = "teacher.logits",
    text: str = "text",
    prompt: str | None = None,
    alpha: Share = 0.5,
    temperature: Positive = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Word-level distillation: at each place of the data's text, the next word, and what the teacher says of it.

    Formula: (1 − α) CE(y_i+1, q_i) + α T² KL(p_i ‖ q_i), the mean over all words that are there and in no prompt

    Args:
        student: path of the student's logits [b, l, c], of the next word at each place.
        teacher: path of the teacher's logits [b, l, c].
        text: name of the modality: `TEXT.ids` and `TEXT.mask` [b, l] stand in the batch.
        prompt: name of the mask [b, l] of words that are not foretold; None is the first.
        alpha: α; the terms' weights `data.weight` and `soft.weight` start from it.
        temperature: T of the soft term.
        where: further mask(s) of the batch, of rows.

    Returns:
        An objective without parameters.

    Topic: structure
    Compares: logits of the next word
    Extra: none
    Source: Kim and Rush, Sequence-Level Knowledge Distillation, 2016, https://arxiv.org/abs/1606.07947
    Differs: the paper sums over a text's words, and writes the cross-entropy, whose gradient is KL's

    Example:
        >>> words = word_kd(prompt="text.prompt", alpha=0.8)
    """
    parts = token_kd(
        student="words.student",
        teacher="words.teacher",
        labels="words.ids",
        mask="words",
        alpha=alpha,
        temperature=temperature,
        where=where,
    )

    def shifted(views):
        logits = {"student": views[student], "teacher": views[teacher]}
        return rollout.foretold(views, "words", views.batch, logits, text=text, prompt=prompt)

    return Objective(
        lambda views: parts.init(shifted(views)),
        lambda params, memory, views: parts.apply(params, memory, shifted(views)),
    )
