"""Selection of the teacher's layers, heads and units for weight inheritance: layer maps and magnitude scores."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError


def spread(teacher: int, student: int) -> tuple[int, ...]:
    """Select layers evenly spaced from the first to the last.

    Formula: layer i is the teacher's round(i (N − 1) / (M − 1))

    Args:
        teacher: N, its layers.
        student: M, its layers.

    Source: DistilBERT's initialization from BERT; Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108

    Example:
        >>> spread(12, 6)
        (0, 2, 4, 7, 9, 11)
    """
    _fits(teacher, student)
    return tuple(round(i * (teacher - 1) / max(student - 1, 1)) for i in range(student))


def every(teacher: int, student: int) -> tuple[int, ...]:
    """Select the last layer of each of equal blocks.

    Formula: layer i is the teacher's ⌊(i + 1) N / M⌋ − 1

    Args:
        teacher: N, its layers.
        student: M, its layers.

    Source: the uniform map of Jiao et al., TinyBERT, 2020, https://arxiv.org/abs/1909.10351

    Example:
        >>> every(12, 4)
        (2, 5, 8, 11)
    """
    _fits(teacher, student)
    return tuple((i + 1) * teacher // student - 1 for i in range(student))


def strided(teacher: int, student: int) -> tuple[int, ...]:
    """Select the first layer of each of equal blocks; remaining layers at the end are skipped.

    Formula: layer i is the teacher's i ⌊N / M⌋

    Args:
        teacher: N, its layers.
        student: M, its layers.

    Source: manual inheritance of Wu et al., TinyCLIP, 2023, https://arxiv.org/abs/2309.12314

    Example:
        >>> strided(12, 4)
        (0, 3, 6, 9)
    """
    _fits(teacher, student)
    return tuple(i * (teacher // student) for i in range(student))


def head_norms(encoder: nn.Module, params: Mapping[str, Any]) -> Float[Array, "attentions heads"]:
    """Score attention heads by the norm of their value–output map.

    Formula: ‖[Wᵥ; bᵥ] Wₒ‖ (Frobenius) of each head, with LayerScale folded into Wₒ; it is 0 if a head adds nothing, and
        invariant to rescaling between Wᵥ and Wₒ

    Args:
        encoder: Transformer encoder.
        params: parameters of the encoder.

    Returns:
        One row per layer, then one for SigLIP's probe if present.

    Source: after the pruning of units by magnitude, Li et al., Pruning Filters for Efficient ConvNets, 2017,
        https://arxiv.org/abs/1608.08710

    Example:
        >>> import jax
        >>> from mmkd_jax.models import Bert, Encoders, TransformerConfig
        >>> from mmkd_jax.pretrained import initial
        >>> bert = Bert(9, TransformerConfig(embed_dim=8, num_layers=3, num_heads=2, mlp_dim=12), length=6)
        >>> head_norms(bert, initial(Encoders({"text": bert}))["params"]["encoders_text"]).shape
        (3, 2)
    """
    scores, heads = [], encoder.config.num_heads
    for layer in _attentions(params):
        dim = layer["out"]["kernel"].shape[0]
        value = {k: x[..., -dim:] for k, x in layer.items() if k in ("kernel", "bias")} or layer["value"]
        read = _rows(value).reshape(-1, heads, dim // heads)
        written = layer["out"]["kernel"] * layer.get("scale_attention", jnp.ones(dim, jnp.float32))[None]
        written = written.reshape(heads, dim // heads, -1)
        inside = jnp.einsum("rhi,rhj->hij", read, read) * jnp.einsum("hiw,hjw->hij", written, written)
        scores.append(jnp.sqrt(jnp.maximum(inside.sum((1, 2)), 0)))  # ‖VO‖² = tr(VᵀV · OOᵀ)
    return jnp.stack(scores)


def mlp_norms(encoder: nn.Module, params: Mapping[str, Any]) -> Float[Array, "attentions mlp_dim"]:
    """Score hidden units of the MLPs by the norms of their input and output weights.

    Formula: ‖[w₁; b₁]‖ ‖w₂‖ of each unit, with LayerScale folded into w₂; a gated MLP has the value's ‖[v; b]‖ as
        another factor

    Args:
        encoder: Transformer encoder.
        params: parameters of the encoder.

    Returns:
        One row per layer, then one for SigLIP's probe if present.

    Source: after the pruning of units by magnitude, Li et al., Pruning Filters for Efficient ConvNets, 2017,
        https://arxiv.org/abs/1608.08710
    """
    scores = []
    for layer in _attentions(params):
        shrink = layer["shrink"]["kernel"]
        written = shrink * layer.get("scale_output", jnp.ones(shrink.shape[1], jnp.float32))[None]
        read = jnp.linalg.norm(_rows(layer["grow"]), axis=0).reshape(-1, shrink.shape[0])
        scores.append(read.prod(0) * jnp.linalg.norm(written, axis=1))
    return jnp.stack(scores)


def _rows(dense) -> Float[Array, "rows units"]:
    """Kernel of a dense layer, with the bias appended as a row."""
    kernel = jnp.asarray(dense["kernel"])
    return jnp.concatenate([kernel, jnp.asarray(dense["bias"])[None]]) if "bias" in dense else kernel


def _attentions(params):
    layers = params["transformer"]
    return [layers[f"layer_{i}"] for i in range(len(layers))] + ([params["probe"]] if "probe" in params else [])


def _fits(teacher, student):
    if not 1 <= student <= teacher:
        raise UserError(f"cannot select {student} layers of {teacher}: expected 1 to {teacher}")
