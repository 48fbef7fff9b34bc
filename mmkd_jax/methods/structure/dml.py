"""Deep mutual learning (DML)."""

from mmkd_jax.core.objective import Objective, combine, masks, term
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def dml(
    *students: str,
    output: str = "logits",
    labels: str = "batch.label",
    temperature: Positive = 1.0,
    weight: float = 1.0,
    labelled: str | tuple[str, ...] | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Deep mutual learning (DML): students learn from labels and from each other's predictions.

    Formula: Σ_k CE(p_k, y) + w / (K − 1) Σ_{l ≠ k} T² KL(p_l ‖ p_k)

    Args:
        *students: names of two or more models, all of them trained:
            `models={"one": mmkd.Trained(one), "two": mmkd.Trained(two)}`.
        output: name of the logits output.
        labels: path of the class labels.
        temperature: T of the KL.
        weight: w; the initial weight of each pair's term is w / (K − 1).
        labelled: batch mask(s) of the labeled rows; the other rows count in the KL terms only.
        where: batch mask(s) of the rows that count at all.

    Returns:
        A parameter-free objective with one term per student (`labels.NAME`) and one per ordered pair
        (`NAME.from_OTHER`). The teaching side of a pair gets no gradient.

    Raises:
        UserError: fewer than two students, or a repeated name.

    Topic: structure
    Compares: logits of several students
    Extra: trains several models
    Source: Zhang et al., Deep Mutual Learning, 2018, https://arxiv.org/abs/1706.00384
    Differs: the paper updates the students in turn, each on the others' newest predictions; here all step at once. The
        authors' code sums over the other students: weight=K − 1

    Example:
        >>> together = dml("one", "two", labelled="labelled")
    """
    if len(students) < 2 or len(set(students)) < len(students):
        raise UserError(f"dml: students are {choices(students)}; expected at least two models, without repeats")

    task = {
        name: term(cross_entropy, logits=f"{name}.{output}", labels=labels, where=masks(where, labelled))
        for name in students
    }
    share = weight / (len(students) - 1)
    pairs = {
        name: combine(
            **{
                f"from_{other}": term(
                    kl,
                    student=f"{name}.{output}",
                    teacher=f"{other}.{output}",
                    temperature=temperature,
                    weight=share,
                    where=where,
                )
                for other in students
                if other != name
            }
        )
        for name in students
    }
    return combine(labels=combine(**task), **pairs)
