"""Self-attention relations of MiniLMv2."""

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError
from mmkd_jax.losses._layers import beside
from mmkd_jax.losses.attention._pairs import mean_divergence, token_pairs
from mmkd_jax.numeric import inner
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated


@validated
def minilm_relations(
    student: tuple[Float[Array, "b l d"], ...],
    teacher: tuple[Float[Array, "b l e"], ...],
    *,
    heads: Count,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Self-attention relations of MiniLMv2: KL between token relations among queries, keys and values.

    Formula: Σ_x (1 / (A L)) Σ_a Σ_i KL(R^t_xai ‖ R^s_xai), R_xa = softmax(X_a X_aᵀ / √d_a), x over (Q, K, V)

    Widths and numbers of attention heads may differ: each side's heads are concatenated and split into relation heads.
    The value relation of MiniLM v1 uses the values only, with the models' attention heads.

    Args:
        student: token vectors X, such as (queries, keys, values), each [b, l, d].
        teacher: token vectors of the teacher, each [b, l, e].
        heads: A, the number of relation heads; must divide d and e. The paper uses 48 (base) and 64 (large).
        mask: mask of valid tokens, [b, l].

    Returns:
        Per-example loss, [b], summed over the relations; 0 if no token is valid.

    Compares: queries, keys and values
    Extra: none
    Source: Wang et al., MiniLMv2, 2021, https://arxiv.org/abs/2012.15828

    Example:
        >>> x = jnp.arange(12.0).reshape(1, 3, 4)
        >>> minilm_relations((x,), (x,), heads=2)
        Array([0.], dtype=float32)
    """
    pairs = beside("minilm_relations", student, teacher)
    for name, x in zip(("student", "teacher"), pairs[0], strict=True):
        if x.shape[-1] % heads:
            raise UserError(
                f"minilm_relations: heads is {heads}; expected a divisor of the {name}'s width {x.shape[-1]}"
            )
    tokens = jnp.ones(pairs[0][0].shape[:2], bool) if mask is None else mask

    def relation(x):
        x = rearrange(jnp.where(tokens[..., None], x, 0), "b l (a d) -> b a l d", a=heads)
        return inner(x, x) / x.shape[-1] ** 0.5

    return jnp.sum(jnp.stack([mean_divergence(relation(s), relation(t), token_pairs(tokens)) for s, t in pairs]), 0)
