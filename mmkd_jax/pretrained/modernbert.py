"""ModernBERT: configuration and tensor names of the text encoder."""

import functools
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.modernbert import ModernBert
from mmkd_jax.pretrained import bert
from mmkd_jax.pretrained.attributes import field, read, replaced, section, written
from mmkd_jax.pretrained.mapping import DENSE, EMBED, NORM, Table, inside, part

OURS, THEIRS = "transformer/layer_{i}", "layers.{i}"
FULL, WINDOW = "full_attention", "sliding_attention"

TABLE: Table = {
    "tokens": ("embeddings.tok_embeddings", EMBED),
    "norm_embedded": ("embeddings.norm", NORM),
    f"{OURS}/norm_attention": (f"{THEIRS}.attn_norm", NORM),
    **{f"{OURS}/{name}": (f"{THEIRS}.attn.Wqkv", part(i, 3)) for i, name in enumerate(("query", "key", "value"))},
    f"{OURS}/out": (f"{THEIRS}.attn.Wo", DENSE),
    f"{OURS}/norm_output": (f"{THEIRS}.mlp_norm", NORM),
    f"{OURS}/grow": (f"{THEIRS}.mlp.Wi", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.mlp.Wo", DENSE),
    "norm": ("final_norm", NORM),
}

# our attribute: (key in config.json, default)
_MODERNBERT = {
    "vocabulary": ("vocab_size", 50368),
    "length": ("max_position_embeddings", 8192),
    "embed_dim": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 22),
    "num_heads": ("num_attention_heads", 12),
    "mlp_dim": ("intermediate_size", 1152),
    "activation": ("hidden_activation", "gelu"),
    "eps": ("norm_eps", 1e-5),
    "bias": ("attention_bias", False),
    "norm_bias": ("norm_bias", False),
    "mlp_bias": ("mlp_bias", False),
    "window": ("local_attention", 128),
    "embedding_dropout": ("embedding_dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
}
FIELDS = {"modernbert": _MODERNBERT}

# heads of pretraining and downstream tasks
ignored = (r"(head|decoder|classifier)\..*",)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_text", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    del kind
    return "model."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names, processor
    fields = read(config, _MODERNBERT)
    size = fields["embed_dim"] // fields["num_heads"]
    for key, expected in {"rope_scaling": None, "head_dim": size}.items():
        if config.get(key) not in (None, expected):
            raise UserError(f"config.json has {key}={reprlib.repr(config[key])}; only {expected!r} is supported")
    if size % 2:
        raise UserError(
            f"config.json has heads of {size} channels; expected an even number, which are rotated in pairs"
        )
    if config.get("sliding_window") is not None:  # half of `local_attention`, which it replaces
        fields["window"] = 2 * field(config, "sliding_window", 64)
    fields["every"] = _every(config, fields["num_layers"])
    fields["theta"] = _theta(config, FULL, "global_rope_theta", 160_000.0)
    fields["window_theta"] = _theta(config, WINDOW, "local_rope_theta", 10_000.0)
    return Encoders({"text": replaced(ModernBert(fields["vocabulary"]), **fields)})


def _every(config, layers):
    kinds = config.get("layer_types")
    if kinds is None:
        return field(config, "global_attn_every_n_layers", 3)
    known = kinds if isinstance(kinds, list) else []
    every = next((i for i, kind in enumerate(known) if i and kind == FULL), layers)
    if known != _layer_types(every, layers):
        expected = f"expected {layers} of {FULL!r}, {WINDOW!r}, with the first one at regular intervals from layer 0"
        raise UserError(f"config.json has layer_types={reprlib.repr(kinds)}; {expected}")
    return every


def _layer_types(every, layers):
    return [WINDOW if i % every else FULL for i in range(layers)]


def _theta(config, kind, key, default):
    rope = section(section(config, "rope_parameters"), kind)
    if (found := rope.get("rope_type", "default")) != "default":
        raise UserError(f"config.json has rope_type={reprlib.repr(found)}; only 'default' is supported")
    return field(rope, "rope_theta", default) if "rope_theta" in rope else field(config, key, default)


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["text"]
    thetas = {FULL: float(encoder.theta), WINDOW: float(encoder.window_theta)}
    more: dict[str, Any] = {"layer_types": _layer_types(encoder.every, encoder.config.num_layers)}
    more["rope_parameters"] = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()}
    more |= {"global_attn_every_n_layers": encoder.every}  # and names of releases before 5
    more |= {"global_rope_theta": thetas[FULL], "local_rope_theta": thetas[WINDOW]}
    fields = written(kind, encoder, _MODERNBERT, dropout=0.0) | more
    return {"model_type": kind, "architectures": ["ModernBertModel"]} | fields


processor = functools.partial(bert.tokenizer, FIELDS)
