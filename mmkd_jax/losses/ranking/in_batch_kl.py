"""KL between the distributions of a query over all documents of the batch."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities
from mmkd_jax.losses.ranking._in_batch import Similarity, embeddings
from mmkd_jax.numeric import divergence
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def in_batch_kl(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    similarity: Similarity = "cosine",
    temperature: Positive = 0.05,
    teacher_temperature: Positive = 0.05,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """In-batch distillation: KL between the distributions of each query over all documents of the batch.

    Formula: KL(p ‖ q), p_i = softmax_j(sim(query_i, document_j) / τ_t) of the teacher, q of the student with τ_s

    For a teacher that scores all pairs itself, such as a late-interaction model, see `listwise_kl`. TAS-B adds
    `margin_mse`, on batches of one topic (`InMemory(…, topic=…)`).

    Args:
        student: query and document embeddings, both [b, d].
        teacher: query and document embeddings, both [b, e].
        similarity: "cosine", or "dot" for the inner product, for student and teacher.
        temperature: τ_s > 0.
        teacher_temperature: τ_t > 0. Cosines lie in −1 … 1, inner products have any scale: choose a temperature for
            each, or learn τ_s, as a path of an output.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: similarities of queries and documents
    Extra: none
    Source: Hofstätter et al., Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling,
        2021, https://arxiv.org/abs/2104.06967
    Differs: the paper takes inner products and τ = 1; `clip_crd` averages both directions of cosines

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> in_batch_kl((x, x), (2 * x, 2 * x))
        Array([0., 0.], dtype=float32)
    """
    mask, (query, document, to_query, to_document) = embeddings((*student, *teacher), similarity, where)
    allowed, _ = candidates(mask, axis_name)
    q = log_affinities(query, document, temperature, allowed, axis_name)
    return divergence(log_affinities(to_query, to_document, teacher_temperature, allowed, axis_name), q)
