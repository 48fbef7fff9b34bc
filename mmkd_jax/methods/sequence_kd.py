"""Distillation of what the teacher itself writes."""

from mmkd_jax import rollout
from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.number import Share
from mmkd_jax.objective import Objective, combine, masks, term
from mmkd_jax.views import output_of


@held
def sequence_kd(
    *,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    text: str = "text",
    prompt: str | None = None,
    end: int | None = None,
    alpha: Share = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Sequence-level distillation: the student learns the text that the teacher writes after the prompt.

    Formula: (1 − α) CE(y_i+1, q_i) + α CE(ŷ_i+1, q̂_i), ŷ the teacher's likeliest word at each place, q̂ the student
        on ŷ; each the mean over the words that are there and in no prompt

    A frozen teacher writes the same text each time: for many epochs, write it once (`rollout.write`) and train on it.

    Args:
        student: name of the trained model; its logits [b, l, c] foretell the next word.
        teacher: name of the frozen model, with the same vocabulary.
        output: name of the logits.
        text: name of the modality: `TEXT.ids` and `TEXT.mask` [b, l] stand in the batch.
        prompt: name of the mask [b, l] of words that the teacher is given; None is the first.
        end: word after which a text ends.
        alpha: α; the terms' weights `data.weight` and `written.weight` start from it.
        where: further mask(s) of the batch, of rows.

    Returns:
        An objective without parameters; it runs the teacher l − 1 times, and the student once more.

    Topic: structure
    Compares: logits of the next word, with the teacher's text
    Extra: l − 1 further passes of the teacher, one of the student
    Source: Kim and Rush, Sequence-Level Knowledge Distillation, 2016, https://arxiv.org/abs/1606.07947
    Differs: the paper's teacher searches with a beam, and the sum is over a text's words

    Example:
        >>> written = sequence_kd(prompt="text.prompt", end=1)
    """

    def said(name, weight):
        labelled = {"logits": f"{name}.student", "labels": f"{name}.ids"}
        return term(cross_entropy, **labelled, weight=weight, where=masks(name, where))

    parts = combine(data=said("words", 1 - alpha), written=said("written", alpha))

    def look(views):
        here = {"text": text, "prompt": prompt}
        batch = rollout.write(views.run[teacher], views.batch, output=output, end=end, **here)
        logits = {"student": output_of(views.run[student](batch), output, student)}
        mine, theirs = (views[f"{m}.{output}"].shape[-1] for m in (student, teacher))
        if mine != theirs:
            raise UserError(
                f"sequence_kd: {teacher!r} knows {theirs} words, {student!r} {mine}; expected one vocabulary"
            )
        views = rollout.foretold(views, "words", views.batch, {"student": views[f"{student}.{output}"]}, **here)
        return rollout.foretold(views, "written", batch, logits, **here)

    return Objective(
        lambda views: parts.init(look(views)),
        lambda params, memory, views: parts.apply(params, memory, look(views)),
    )
