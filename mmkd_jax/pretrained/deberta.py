"""DeBERTa v2 and v3: configuration and tensor names of the text encoder."""

import functools
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.errors import UserError
from mmkd_jax.models.deberta import Deberta
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import bert
from mmkd_jax.pretrained.attributes import MOST, field, read, replaced, written
from mmkd_jax.pretrained.mapping import DENSE, EMBED, NORM, Table, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layer.{i}"
TERMS = ("c2p", "p2c")

TABLE: Table = bert.BERT | {
    "relative": ("encoder.rel_embeddings", EMBED),
    "norm_relative": ("encoder.LayerNorm", NORM),
    f"{OURS}/query": (f"{THEIRS}.attention.self.query_proj", DENSE),
    f"{OURS}/key": (f"{THEIRS}.attention.self.key_proj", DENSE),
    f"{OURS}/value": (f"{THEIRS}.attention.self.value_proj", DENSE),
    f"{OURS}/position_key": (f"{THEIRS}.attention.self.pos_key_proj", DENSE),
    f"{OURS}/position_query": (f"{THEIRS}.attention.self.pos_query_proj", DENSE),
    "transformer/layer_0/conv": ("encoder.conv.conv", DENSE),  # the kernel is transposed, as a matrix is
    "transformer/layer_0/norm_conv": ("encoder.conv.LayerNorm", NORM),
}

# our attribute: (key in config.json, default)
_DEBERTA = {
    "vocabulary": ("vocab_size", 128100),
    "length": ("max_position_embeddings", 512),
    "embed_dim": ("hidden_size", 1536),
    "num_layers": ("num_hidden_layers", 24),
    "num_heads": ("num_attention_heads", 24),
    "mlp_dim": ("intermediate_size", 6144),
    "types": ("type_vocab_size", 0),
    "activation": ("hidden_act", "gelu"),
    "eps": ("layer_norm_eps", 1e-7),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "positions": ("position_biased_input", True),
    "shared_keys": ("share_att_key", False),
    "conv_activation": ("conv_act", "tanh"),
}
FIELDS = {"deberta-v2": _DEBERTA}

# buffers, position embeddings that are not added to the tokens, and heads of pretraining and downstream tasks
ignored = (
    r"embeddings\.(position_ids|position_embeddings\.weight)",
    r"(cls|lm_predictions|mask_predictions|pooler|classifier|qa_outputs)\..*",
)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_text", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    del kind
    return "deberta."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names, processor
    fields = read(config, _DEBERTA)
    refused = {"relative_attention": (True, False), "embedding_size": (fields["embed_dim"],) * 2, "conv_groups": (1, 1)}
    refused["attention_head_size"] = (fields["embed_dim"] // fields["num_heads"],) * 2
    for key, (expected, default) in refused.items():
        if config.get(key, default) != expected:
            value = reprlib.repr(config.get(key, default))
            raise UserError(f"config.json has {key}={value}; only {expected!r} is supported")
    fields["buckets"] = _below_one_is_none(config, "position_buckets") or 0
    fields["reach"] = _below_one_is_none(config, "max_relative_positions") or fields["length"]
    buckets, reach = fields["buckets"], fields["reach"]
    if buckets == 1 or (buckets and reach <= buckets // 2 + 1):
        limits = f"position_buckets={buckets} and positions up to {reach}"
        raise UserError(f"config.json has {limits}; expected at least 2, and positions beyond half of them")
    fields["terms"], fields["normed"] = _terms(config), _normed(config)
    fields["kernel"] = field(config, "conv_kernel_size", 0, 0)
    if fields["kernel"] and fields["kernel"] % 2 == 0:
        raise UserError(f"config.json has conv_kernel_size={fields['kernel']}; expected an odd number, or 0 for none")
    return Encoders({"text": replaced(Deberta(fields["vocabulary"]), **fields)})


def _below_one_is_none(config, key):
    n = field(config, key, -1, -MOST)
    return n if n > 0 else None


def _terms(config):
    said = config.get("pos_att_type")
    terms = [x.strip() for x in said.lower().split("|")] if isinstance(said, str) else said
    if not isinstance(terms, list) or not terms or any(t not in TERMS for t in terms):
        raise UserError(f"config.json has pos_att_type={reprlib.repr(said)}; expected 'c2p', 'p2c' or 'p2c|c2p'")
    return tuple(t for t in TERMS if t in terms)


def _normed(config):
    said = field(config, "norm_rel_ebd", "none")
    if said.strip().lower() not in ("none", "layer_norm"):
        raise UserError(f"config.json has norm_rel_ebd={reprlib.repr(said)}; expected 'none' or 'layer_norm'")
    return said.strip().lower() == "layer_norm"


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["text"]
    more = {"relative_attention": True, "position_buckets": encoder.buckets or -1}
    more |= {"max_relative_positions": encoder.reach, "pos_att_type": list(encoder.terms)}
    more |= {"norm_rel_ebd": "layer_norm" if encoder.normed else "none", "conv_kernel_size": encoder.kernel}
    fields = written(kind, encoder, _DEBERTA) | more
    return {"model_type": kind, "architectures": ["DebertaV2Model"]} | fields


processor = functools.partial(bert.tokenizer, FIELDS)
