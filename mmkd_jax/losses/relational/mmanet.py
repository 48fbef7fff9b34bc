"""Margin-aware distillation (MAD) of MMANet."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather, summed
from mmkd_jax.numeric import at_least_float32, expected, finite, inner, log_softmax, rows_that_count, unit, zero_rows
from mmkd_jax.validation import validated


@validated
def mmanet(
    student: Float[Array, "b ..."],
    teacher: tuple[Float[Array, "b ..."], Float[Array, "b c"]],
    *,
    weighed: Literal["rows", "columns"] = "rows",
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Margin-aware distillation (MAD of MMANet): MSE of Gram matrices, weighted by the teacher's uncertainty.

    Formula: n w_i Σ_j (G_s[i, j] − G_t[i, j])², G = X Xᵀ with rows divided by their norm, w_i = H_i / Σ_k H_k, H_i the
    entropy of the teacher's softmax; columns: n Σ_j w_j (…)²

    Args:
        student: features, [b, ...], flattened; the student may lack modalities.
        teacher: features, [b, ...], flattened, and logits, [b, c].
        weighed: weight by the uncertainty of the anchor i ("rows") or of its partner j ("columns").
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is Σ_i w_i Σ_j (…)². All 0 if the teacher is certain of every row.

    Compares: relations between examples, weighted by the teacher's logits
    Extra: none
    Source: Wei et al., MMANet: Margin-aware Distillation and Modality-aware Regularization for Incomplete Multimodal
        Learning, 2023, https://arxiv.org/abs/2304.08028
    Differs: the authors' code weights columns in classification; in segmentation it weights rows, and normalizes their
        relations to the two halves of the batch separately. Its modality-aware regularization, which searches for weak
        combinations of modalities on the test set, is omitted

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> mmanet(x, (2 * x, x)).tolist()
        [0.0, 0.0]
    """
    student, features, logits = at_least_float32(student, *teacher)
    mask = rows_that_count(student, where)

    def gram(x):
        x = zero_rows(x.reshape(len(x), -1), mask)
        return unit(inner(x, gather(x, axis_name)[0]))

    logp = log_softmax(zero_rows(logits, mask))
    entropy = zero_rows(-expected(jnp.exp(logp), finite(logp)), mask)
    total = summed(jnp.sum(entropy), axis_name)
    n = summed(jnp.sum(mask), axis_name).astype(entropy.dtype)
    share = n * entropy / jnp.where(total > 0, total, 1)
    gap = gram(student) - gram(features)
    if weighed == "rows":
        return share * jnp.sum(gap * gap, 1)
    return jnp.sum(gather(share, axis_name)[0][None, :] * gap * gap, 1)
