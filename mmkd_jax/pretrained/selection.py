"""Which layers, heads and units of a teacher a student begins with: rules for layers, scores of weights."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError


def spread(teacher: int, student: int) -> tuple[int, ...]:
    """Evenly from the first layer to the last.

    Formula: layer i is the teacher's round(i (N − 1) / (M − 1))

    Args:
        teacher: N, its layers.
        student: M, its layers.

    Source: the layers that DistilBERT took of BERT's; Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108

    Example:
        >>> spread(12, 6)
        (0, 2, 4, 7, 9, 11)
    """
    _fits(teacher, student)
    return tuple(round(i * (teacher - 1) / max(student - 1, 1)) for i in range(student))


def every(teacher: int, student: int) -> tuple[int, ...]:
    """The last layer of each of equal blocks.

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
    """The first layer of each of equal blocks; what does not divide is left at the end.

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
    """How large a head's way from a token to what it adds is.

    Formula: ‖[Wᵥ; bᵥ] Wₒ‖ (Frobenius) of each head, with LayerScale within Wₒ: 0 where a head adds nothing, and
        the same however a factor is shared by Wᵥ and Wₒ

    Args:
        encoder: with heads and layers.
        params: its parameters.

    Returns:
        A row for each layer, and a last one for SigLIP's probe.

    Source: after the pruning of units by magnitude, Li et al., Pruning Filters for Efficient ConvNets, 2017,
        https://arxiv.org/abs/1608.08710

    Example:
        >>> import jax
        >>> from mmkd_jax.models import Bert, Encoders
        >>> from mmkd_jax.pretrained import initial
        >>> bert = Bert(9, width=8, layers=3, heads=2, inner=12, length=6)
        >>> head_norms(bert, initial(Encoders({"text": bert}))["params"]["encoders_text"]).shape
        (3, 2)
    """
    found = []
    for own in _attentions(params):
        width = own["out"]["kernel"].shape[0]
        value = {k: x[..., -width:] for k, x in own.items() if k in ("kernel", "bias")} or own["value"]
        read = _rows(value).reshape(-1, encoder.heads, width // encoder.heads)
        written = own["out"]["kernel"] * own.get("scale_attention", jnp.ones(width, jnp.float32))[None]
        written = written.reshape(encoder.heads, width // encoder.heads, -1)
        inside = jnp.einsum("rhi,rhj->hij", read, read) * jnp.einsum("hiw,hjw->hij", written, written)
        found.append(jnp.sqrt(jnp.maximum(inside.sum((1, 2)), 0)))  # ‖VO‖² = tr(VᵀV · OOᵀ)
    return jnp.stack(found)


def inner_norms(encoder: nn.Module, params: Mapping[str, Any]) -> Float[Array, "attentions inner"]:
    """How large a unit's way from a token to what it adds is.

    Formula: ‖[w₁; b₁]‖ ‖w₂‖ of each unit between a layer's dense layers, with LayerScale within w₂, and ‖[v; b]‖ of a
        gated layer's value as a further factor

    Args:
        encoder: with such layers.
        params: its parameters.

    Returns:
        A row for each layer, and a last one for SigLIP's probe.

    Source: after the pruning of units by magnitude, Li et al., Pruning Filters for Efficient ConvNets, 2017,
        https://arxiv.org/abs/1608.08710
    """
    found = []
    for own in _attentions(params):
        shrink = own["shrink"]["kernel"]
        written = shrink * own.get("scale_output", jnp.ones(shrink.shape[1], jnp.float32))[None]
        read = jnp.linalg.norm(_rows(own["grow"]), axis=0).reshape(-1, shrink.shape[0])
        found.append(read.prod(0) * jnp.linalg.norm(written, axis=1))
    return jnp.stack(found)


def _rows(dense) -> Float[Array, "rows units"]:
    """A dense layer's kernel, and its bias as one more row."""
    kernel = jnp.asarray(dense["kernel"])
    return jnp.concatenate([kernel, jnp.asarray(dense["bias"])[None]]) if "bias" in dense else kernel


def _attentions(params):
    layers = params["transformer"]
    return [layers[f"layer_{i}"] for i in range(len(layers))] + ([params["probe"]] if "probe" in params else [])


def _fits(teacher, student):
    if not 1 <= student <= teacher:
        raise UserError(f"{student} layers of {teacher}: expected from 1 to {teacher}")
