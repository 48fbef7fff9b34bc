"""The margin-aware distillation of MMANet."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather, summed
from mmkd_jax.losses.numeric import (
    at_least_float32,
    expected,
    finite,
    inner,
    log_softmax,
    rows_that_count,
    unit,
    zero_rows,
)


@checked
def mmanet(
    student: Float[Array, "b ..."],
    teacher: tuple[Float[Array, "b ..."], Float[Array, "b c"]],
    *,
    weighed: Literal["rows", "columns"] = "rows",
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Margin-aware distillation (MAD of MMANet): relations of rows, more of those about which the teacher is unsure.

    Formula: n w_i Σ_j (G_s[i, j] − G_t[i, j])², G = X Xᵀ with rows divided by their norm, w_i = H_i / Σ_k H_k, H_i the
    entropy of the teacher's softmax; columns: n Σ_j w_j (…)²

    Args:
        student: features, [b, ...], flattened, of a student that may lack modalities.
        teacher: its features, [b, ...], flattened, and its logits, [b, c].
        weighed: by the uncertainty about the anchor i, the "rows", or about its partner j, the "columns".
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is Σ_i w_i Σ_j (…)². If the teacher is certain of every row they are 0.

    Compares: relations of rows, weighted by the teacher's logits
    Extra: none
    Source: Wei et al., MMANet: Margin-aware Distillation and Modality-aware Regularization for Incomplete Multimodal
        Learning, 2023, https://arxiv.org/abs/2304.08028
    Differs: the authors' code weighs columns in classification; in segmentation it weighs rows, whose relations to the
        two halves of the batch it normalises apart. Its modality-aware regularisation, which looks for weak
        combinations of modalities on the test set, is left out

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> mmanet(x, (2 * x, x)).tolist()
        [0.0, 0.0]
    """
    student, features, logits = at_least_float32(student, *teacher)
    mask = rows_that_count(student, where)

    def gram(x):
        x = zero_rows(x.reshape(len(x), -1), mask)
        return unit(inner(x, gather(x, axis)[0]))

    logp = log_softmax(zero_rows(logits, mask))
    unsure = zero_rows(-expected(jnp.exp(logp), finite(logp)), mask)
    whole = summed(jnp.sum(unsure), axis)
    n = summed(jnp.sum(mask), axis).astype(unsure.dtype)
    share = n * unsure / jnp.where(whole > 0, whole, 1)
    gap = gram(student) - gram(features)
    if weighed == "rows":
        return share * jnp.sum(gap * gap, 1)
    return jnp.sum(gather(share, axis)[0][None, :] * gap * gap, 1)
