"""Visual question answering, as classification over answers with several accepted ones."""

import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.models.output_heads import LinearHead
from mmkd_jax.numeric import top_class
from mmkd_jax.tasks import _labels


def visual_questions(answers: int, label: str = "label", logits: str = "logits") -> Task:
    """Visual question answering with soft scores: an answer counts by how many people gave it.

    Formula: loss = binary cross-entropy of σ(z) and the scores, averaged over answers; accuracy = mean score of the
    largest z; in VQA v2, the score of an answer is min(number of people/3, 1)

    With one right answer for each question, this is `classification(answers)`. Compare with models that lack the image
    or the question: their accuracy needs no understanding of the other.

    Args:
        answers: number of answers.
        label: name of the scores in the batch, [b, answers], 0 … 1.
        logits: name of the model's output, [b, answers].

    Source: Antol et al., VQA: Visual Question Answering, 2015, https://arxiv.org/abs/1505.00468; Teney et al., Tips and
        Tricks for Visual Question Answering, 2017, https://arxiv.org/abs/1708.02711

    Example:
        >>> scores = jnp.array([[1.0, 0.3, 0.0], [0.0, 0.6, 0.0]])
        >>> outputs = {"logits": jnp.array([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])}
        >>> s, n = visual_questions(3).metrics(outputs, {"label": scores})["accuracy"]
        >>> round(float(s / n), 2)  # of at most 0.8
        0.45
    """
    _labels.check_count("visual_questions", "answers", answers, 2)

    def objective(model: str = "student", **options) -> Objective:
        return term(losses.binary_cross_entropy, logits=f"{model}.{logits}", labels=f"batch.{label}", **options)

    def predict(outputs):
        return top_class(outputs[logits])

    def means(outputs, batch):
        if outputs[logits].shape[-1] != answers:
            raise UserError(f"{logits!r} has shape {list(outputs[logits].shape)}, for {answers} answers")
        score = jnp.take_along_axis(batch[label], predict(outputs)[:, None], -1)[:, 0].astype(jnp.float32)
        valid = batch.get("valid", jnp.ones(len(score), bool))
        count, best = jnp.sum(valid).astype(jnp.float32), jnp.max(batch[label], -1).astype(jnp.float32)
        zero = jnp.zeros((), jnp.float32)
        return {
            "accuracy": (jnp.sum(jnp.where(valid, score, zero)), count),
            "largest accuracy": (jnp.sum(jnp.where(valid, best, zero)), count),
        }

    def check(columns):
        scores = _labels.column(columns, label, "visual_questions", (answers,))
        needs = "visual_questions needs floats from 0 to 1 (with one answer for each question, use classification)"
        _labels.check_kind(columns, label, np.floating, needs, "scores {!r} are")
        _labels.refuse(columns, label, scores, ~((scores >= 0) & (scores <= 1)), "scores must be 0 … 1")

    return Task(
        "visual_questions",
        "accuracy",
        objective,
        predict,
        means,
        check,
        problem="visual_questions",
        head=LinearHead({logits: answers}),
        size=int(answers),
        label=label,
    )
