"""Deep mutual learning: students that teach one another."""

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Positive
from mmkd_jax.objective import Objective, combine, masks, term


@held
def dml(
    *students: str,
    output: str = "logits",
    labels: str = "batch.label",
    temperature: Positive = 1.0,
    weight: float = 1.0,
    labelled: str | tuple[str, ...] | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Deep mutual learning (DML): each student learns from labels and from what the others say.

    Formula: Σ_k CE(p_k, y) + w / (K − 1) Σ_{l ≠ k} T² KL(p_l ‖ p_k)

    Args:
        *students: names of at least two models; all are trained: `trained=("one", "two")`.
        output: name of the logits.
        labels: path of the labels.
        temperature: T of the KL.
        weight: w; the weight of each pair's term starts from w / (K − 1).
        labelled: mask(s) of the rows that have a label; the others are learned from one another alone.
        where: mask(s) of the rows that count at all.

    Returns:
        An objective without parameters, with a term for each student (`labels.NAME`) and for each pair
        (`NAME.from_OTHER`). Who teaches gets no gradient.

    Raises:
        UserError: fewer than two students, or one twice.

    Topic: structure
    Compares: logits of several students
    Extra: trains several models
    Source: Zhang et al., Deep Mutual Learning, 2018, https://arxiv.org/abs/1706.00384
    Differs: the paper updates the students in turns, each seeing the others' newest answers; here all step at once. The
        authors' code sums over the other students: weight=K − 1

    Example:
        >>> together = dml("one", "two", labelled="labelled")
    """
    if len(students) < 2 or len(set(students)) < len(students):
        raise UserError(f"dml: students are {choices(students)}; expected at least two models, each once")

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
