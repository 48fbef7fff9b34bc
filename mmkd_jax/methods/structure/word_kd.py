"""Word-level knowledge distillation (Word-KD) of autoregressive models."""

from mmkd_jax.core import generation
from mmkd_jax.core.objective import Objective
from mmkd_jax.methods.structure.token_kd import token_kd
from mmkd_jax.typing import Positive, Share
from mmkd_jax.validation import validated


@validated
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
    """Word-level knowledge distillation (Word-KD): next-token cross-entropy plus KL to the teacher, on the data's text.

    Formula: (1 − α) CE(y_i+1, q_i) + α T² KL(p_i ‖ q_i), the mean over the unmasked tokens after the prompt

    Args:
        student: path of the student's next-token logits [b, l, c].
        teacher: path of the teacher's next-token logits [b, l, c].
        text: name of the text modality; the batch has `TEXT.ids` and `TEXT.mask` [b, l].
        prompt: name of the batch mask [b, l] of the tokens that are not predicted; None is the first token.
        alpha: α; sets the initial weights `data.weight` (1 − α) and `soft.weight` (α).
        temperature: T of the soft term.
        where: further batch mask(s), over rows.

    Returns:
        A parameter-free objective.

    Topic: structure
    Compares: next-token logits
    Extra: none
    Source: Kim and Rush, Sequence-Level Knowledge Distillation, 2016, https://arxiv.org/abs/1606.07947
    Differs: the paper sums over a text's tokens and uses the cross-entropy to the teacher, which has the gradient of
        the KL

    Example:
        >>> words = word_kd(prompt="text.prompt", alpha=0.8)
    """
    objectives = token_kd(
        student="words.student",
        teacher="words.teacher",
        labels="words.ids",
        mask="words",
        alpha=alpha,
        temperature=temperature,
        where=where,
    )

    def shifted(outputs):
        logits = {"student": outputs[student], "teacher": outputs[teacher]}
        return generation.next_token_outputs(outputs, "words", outputs.batch, logits, text=text, prompt=prompt)

    return Objective(
        lambda outputs: objectives.init(shifted(outputs)),
        lambda params, state, outputs: objectives.apply(params, state, shifted(outputs)),
    )
