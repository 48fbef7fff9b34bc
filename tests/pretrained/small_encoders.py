"""Small encoders of every kind that begin as parts of others, their variables, and what they make of two rows."""

from dataclasses import replace

import jax
import numpy as np

from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.models import Bert, Clip, ClipText, Encoders, ModernBert, TransformerConfig, Vit
from mmkd_jax.pretrained import initial

WORDS, LENGTH, SIDE = 11, 5, (4, 6)
SMALL = {"embed_dim": 8, "num_layers": 2, "num_heads": 2, "mlp_dim": 6}
BIG = {"embed_dim": 16, "num_layers": 2, "num_heads": 4, "mlp_dim": 15}
PICTURES = {"size": SIDE, "patch": (2, 2)}


def config(**sizes):
    return TransformerConfig(**sizes, eps=1e-5)


def bert(**sizes):
    return Encoders({"text": Bert(WORDS, config(**sizes), length=LENGTH, pooler=True)})


def roberta(**sizes):
    own = TransformerConfig(**sizes)
    return Encoders({"text": Bert(WORDS, own, length=LENGTH + 2, types=1, padding=1, pool="first")})


def deit(**sizes):
    return Encoders({"image": Vit(**PICTURES, config=config(**sizes), num_prefix_tokens=2, pooler=True, pool="pooler")})


def vit_with_its_own_pooler(**sizes):
    return Encoders({"image": Vit(**PICTURES, config=config(**sizes), pooler=True, pooled=3)})


def dinov2_gated(**sizes):
    gated = config(**sizes, layer_scale=True, gated_mlp=True, activation="silu", bias=False)
    return Encoders({"image": Vit(**PICTURES, config=gated, registers=3)})


def clip(**sizes):
    image = Vit(**PICTURES, config=config(**sizes), patch_bias=False, embedded_norm=True)
    return Clip({"text": ClipText(WORDS, replace(ClipText.config, **sizes), length=LENGTH, end=2), "image": image}, 5)


def siglip(**sizes):
    own = replace(ClipText.config, **sizes)
    text = ClipText(WORDS, own, length=LENGTH, causal=False, end=None, head=own.embed_dim)
    image = Vit(**PICTURES, config=config(**sizes), num_prefix_tokens=0, pool="probe")
    return Clip({"text": text, "image": image}, None, biased=True)


def modernbert(**sizes):
    own = config(**sizes, gated_mlp=True, bias=False)
    return Encoders({"text": ModernBert(WORDS, own, length=LENGTH, every=1)})


FAMILIES = [bert, roberta, modernbert, deit, vit_with_its_own_pooler, dinov2_gated, clip, siglip]


def drawn(module, seed=0):
    """Every variable drawn anew: a bias or a norm that is left out is noticed."""
    draw = np.random.default_rng(seed)

    def one(x):
        noise = draw.normal(size=x.shape).astype(np.float32)
        return np.asarray(noise * (x.shape[-2] ** -0.5 if x.ndim > 1 else 0.3) + (x.ndim == 1), np.float32)

    return jax.tree.map(one, jax.eval_shape(lambda: initial(module)))


def run(module, variables, patch=None):
    """What it makes of two rows."""
    draw = np.random.default_rng(9)
    batch: dict[str, np.ndarray] = {"example_id": np.arange(2, dtype=np.int32)}
    batch["text.ids"] = draw.integers(2, WORDS, (2, LENGTH)).astype(np.int32)
    batch["text.mask"] = np.arange(LENGTH)[None] < np.array([[LENGTH], [3]])
    batch["image"] = draw.integers(0, 256, (2, *SIDE, 3), dtype=np.uint8)
    apply = jax.jit(lambda v, p: linen(module).apply(v, batch, StepContext(0, jax.random.key(0), train=False), p)[0])
    return apply(variables, patch or {})
