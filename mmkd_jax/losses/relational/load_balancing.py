"""Load-balancing loss of a mixture of experts."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import summed
from mmkd_jax.numeric import at_least_float32, largest, rows_that_count, zero_rows
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated


@validated
def load_balancing(
    router: Float[Array, "b e"],
    *,
    top_k: Count = 2,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Load-balancing loss: make the router of a mixture of experts use all of them equally.

    Formula: E Σ_e f_e p_ie, f_e = (1 / (n k)) Σ_i [e is one of the k largest of p_i], with E experts and n rows

    Shares f_e are counts, without gradient: the gradient lowers the probabilities of experts that many rows use. With
    equal use the mean is 1, and at most E / k. Only rows of the mask count, so padding of a batch uses no expert.

    Args:
        router: probabilities p of the experts, before the largest are picked, such as the output `router` of
            `models.fusion.MoE`, [b, e].
        top_k: k, the number of experts for each row, as in the model.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is the paper's loss. Weigh it by 0.01, as the paper does.

    Compares: use of the experts by the rows of a batch
    Extra: none
    Source: Fedus et al., Switch Transformers: Scaling to Trillion Parameter Models with Simple and Efficient Sparsity,
        2021, https://arxiv.org/abs/2101.03961
    Differs: the paper has k = 1; implementations for k > 1 that do not divide the counts by k have k times the value

    Example:
        >>> load_balancing(jnp.array([[0.75, 0.25], [0.5, 0.5]]), top_k=1)  # both pick the first expert
        Array([1.5, 1. ], dtype=float32)
    """
    (router,) = at_least_float32(router)
    mask = rows_that_count(router, where)
    router = zero_rows(router, mask)
    picked = jnp.where(mask[:, None] & largest(router, top_k), 1, 0).astype(router.dtype)
    n = jnp.maximum(summed(jnp.sum(mask), axis_name), 1).astype(router.dtype)
    shares = summed(jnp.sum(picked, 0), axis_name) / (n * min(top_k, router.shape[1]))
    return router.shape[1] * jnp.sum(router * shares[None], -1)
