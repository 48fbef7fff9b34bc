"""Self-attention relations of MiniLM."""

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention.pairs import mean_divergence, pairs_of
from mmkd_jax.losses.checked import BadInput, checked
from mmkd_jax.losses.layers import beside
from mmkd_jax.losses.numeric import inner


@checked
def minilm_relations(
    student: tuple[Float[Array, "b l d"], ...],
    teacher: tuple[Float[Array, "b l e"], ...],
    *,
    heads: int,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Self-attention relations of MiniLM v2: KL between how tokens relate among queries, keys, values.

    Formula: Σ_x (1 / (A L)) Σ_a Σ_i KL(R^t_xai ‖ R^s_xai), R_xa = softmax(X_a X_aᵀ / √d_a), x over (Q, K, V)

    Widths, and the models' own numbers of heads, may differ: the heads of each side are put side by side and cut anew.
    The value relation of MiniLM v1 is that of the values alone, with the models' heads.

    Args:
        student: vectors X of the tokens, such as (queries, keys, values), each [b, l, d].
        teacher: the same of the teacher, each [b, l, e].
        heads: A, the number of relation heads; it divides d and e. The paper: 48 (base size) and 64 (large).
        mask: tokens that count, [b, l].

    Returns:
        Values [b], the sum over the relations; 0 without a token that counts.

    Compares: queries, keys and values
    Extra: none
    Source: Wang et al., MiniLMv2, 2021, https://arxiv.org/abs/2012.15828

    Example:
        >>> x = jnp.arange(12.0).reshape(1, 3, 4)
        >>> minilm_relations((x,), (x,), heads=2)
        Array([0.], dtype=float32)
    """
    both = beside("minilm_relations", student, teacher)
    for name, x in zip(("student", "teacher"), both[0], strict=True):
        if x.shape[-1] % heads:
            raise BadInput(f"minilm_relations: heads is {heads}; expected a divisor of {name}'s width {x.shape[-1]}")
    tokens = jnp.ones(both[0][0].shape[:2], bool) if mask is None else mask

    def relation(x):
        x = rearrange(jnp.where(tokens[..., None], x, 0), "b l (a d) -> b a l d", a=heads)
        return inner(x, x) / x.shape[-1] ** 0.5

    return jnp.sum(jnp.stack([mean_divergence(relation(s), relation(t), pairs_of(tokens)) for s, t in both]), 0)
