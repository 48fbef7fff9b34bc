"""KL between distributions over the candidates of a query."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.numeric import at_least_float32, divergence, log_softmax, softened, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def listwise_kl(
    student: Float[Array, "b n"],
    teacher: Float[Array, "b n"],
    *,
    mask: Bool[Array, "b n"] | None = None,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """Listwise distillation: KL between the distributions of a query over its candidate documents.

    Formula: T² Σ_j p_j (log p_j − log q_j), p = softmax(t / T), q = softmax(s / T) over the candidates

    A teacher's scores in 0 … 1 and a student's inner products have different scales, and a softmax sees differences
    only up to its scale: standardize both (`losses.standardize` in `connect=`), or learn a scale of the student.

    Args:
        student: scores s of the candidates, such as the relevant document and hard negatives, [b, n].
        teacher: scores t of the same candidates, [b, n].
        mask: which candidates count, [b, n]; None means all. Leave out hard negatives that the teacher scores nearly as
            high as the relevant document: they often answer the query, too.
        temperature: T > 0, a scalar or one value per query.

    Returns:
        Per-query loss, [b], with the factor T²; 0 for a query with fewer than two candidates. A score of −inf in both
        is no candidate; in the student only, the value is +inf if the teacher gives it probability.

    Compares: scores of candidate documents
    Extra: none
    Source: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007,
        https://doi.org/10.1145/1273496.1273513; as distillation: Ren et al., RocketQAv2, 2021,
        https://arxiv.org/abs/2110.07367
    Differs: the first paper takes the cross-entropy, which has the same gradient

    Example:
        >>> s, t = jnp.array([[1.0, 1.0, 9.0]]), jnp.array([[2.0, 2.0, 0.0]])
        >>> listwise_kl(s, t, mask=jnp.array([[True, True, False]]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    if mask is not None:
        student, teacher = (jnp.where(mask, x, -jnp.inf) for x in (student, teacher))
    logq, logp = (log_softmax(softened(x, temperature)) for x in (student, teacher))
    return squared(temperature, logq) * divergence(logp, logq)
