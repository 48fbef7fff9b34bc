"""Squared difference of score margins."""

from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, mean_of_last
from mmkd_jax.validation import validated


@validated
def margin_mse(
    student: tuple[Float[Array, " b"], Float[Array, " b *n"]],
    teacher: tuple[Float[Array, " b"], Float[Array, " b *n"]],
) -> Float[Array, " b"]:
    """Margin-MSE: squared difference between the student's and the teacher's margin of relevant over other document.

    Formula: ((s⁺ − s⁻) − (t⁺ − t⁻))², averaged over the other documents of a query

    Margins are signed: where the teacher prefers the other document, so should the student. Their sizes are compared,
    too. A teacher whose scores are probabilities has margins below 1, while inner products have any scale: take the
    teacher's scores before the sigmoid, or scale the student's (`temperature` of `models.BiEncoder`).

    Args:
        student: scores s⁺ of the relevant document, [b], and s⁻ of another one, [b], or of n others, [b, n].
        teacher: scores t⁺ and t⁻ of the same documents.

    Returns:
        Per-query loss, [b].

    Compares: differences of the scores of two documents
    Extra: none
    Source: Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation,
        2020, https://arxiv.org/abs/2010.02666
    Differs: older docstrings of sentence-transformers write |s⁺ − s⁻|; its code takes signed margins, as here

    Example:
        >>> import jax.numpy as jnp
        >>> one, two = jnp.array([1.0]), jnp.array([2.0])
        >>> margin_mse((two, one), (one, two)).tolist()  # margins 1 and −1
        [4.0]
    """
    arrays = at_least_float32(*student, *teacher)
    ours, theirs = (
        positive.reshape(positive.shape + (1,) * (negative.ndim - 1)) - negative
        for positive, negative in (arrays[:2], arrays[2:])
    )
    gap = ours - theirs
    return mean_of_last(gap * gap)
