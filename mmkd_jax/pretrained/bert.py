"""BERT, RoBERTa, DistilBERT, MiniLM, XLM-R, data2vec: configurations and tensor names of text encoders."""

import functools
import pathlib
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data.tokenizer import optional
from mmkd_jax.errors import UserError
from mmkd_jax.models.bert import Bert
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained.attributes import field, read, replaced, written
from mmkd_jax.pretrained.mapping import DENSE, EMBED, NORM, Table, inside

LAYER = "transformer/layer_{i}"

BERT: Table = {
    "tokens": ("embeddings.word_embeddings", EMBED),
    "positions": ("embeddings.position_embeddings", EMBED),
    "types": ("embeddings.token_type_embeddings", EMBED),
    "norm": ("embeddings.LayerNorm", NORM),
    f"{LAYER}/query": ("encoder.layer.{i}.attention.self.query", DENSE),
    f"{LAYER}/key": ("encoder.layer.{i}.attention.self.key", DENSE),
    f"{LAYER}/value": ("encoder.layer.{i}.attention.self.value", DENSE),
    f"{LAYER}/out": ("encoder.layer.{i}.attention.output.dense", DENSE),
    f"{LAYER}/norm_attention": ("encoder.layer.{i}.attention.output.LayerNorm", NORM),
    f"{LAYER}/grow": ("encoder.layer.{i}.intermediate.dense", DENSE),
    f"{LAYER}/shrink": ("encoder.layer.{i}.output.dense", DENSE),
    f"{LAYER}/norm_output": ("encoder.layer.{i}.output.LayerNorm", NORM),
    "pooler": ("pooler.dense", DENSE),
}
DISTILBERT: Table = {
    "tokens": ("embeddings.word_embeddings", EMBED),
    "positions": ("embeddings.position_embeddings", EMBED),
    "norm": ("embeddings.LayerNorm", NORM),
    f"{LAYER}/query": ("transformer.layer.{i}.attention.q_lin", DENSE),
    f"{LAYER}/key": ("transformer.layer.{i}.attention.k_lin", DENSE),
    f"{LAYER}/value": ("transformer.layer.{i}.attention.v_lin", DENSE),
    f"{LAYER}/out": ("transformer.layer.{i}.attention.out_lin", DENSE),
    f"{LAYER}/norm_attention": ("transformer.layer.{i}.sa_layer_norm", NORM),
    f"{LAYER}/grow": ("transformer.layer.{i}.ffn.lin1", DENSE),
    f"{LAYER}/shrink": ("transformer.layer.{i}.ffn.lin2", DENSE),
    f"{LAYER}/norm_output": ("transformer.layer.{i}.output_layer_norm", NORM),
}

# our attribute: (key in config.json, default)
_COMMON = {"vocabulary": ("vocab_size", 30522), "length": ("max_position_embeddings", 512)}
_BERT = _COMMON | {
    "embed_dim": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "mlp_dim": ("intermediate_size", 3072),
    "types": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu"),
    "eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
_ROBERTA = _BERT | {"vocabulary": ("vocab_size", 50265), "padding": ("pad_token_id", 1)}
_DISTILBERT = _COMMON | {
    "embed_dim": ("dim", 768),
    "num_layers": ("n_layers", 6),
    "num_heads": ("n_heads", 12),
    "mlp_dim": ("hidden_dim", 3072),
    "activation": ("activation", "gelu"),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
}
FIELDS = {"bert": _BERT, "roberta": _ROBERTA, "xlm-roberta": _ROBERTA, "distilbert": _DISTILBERT}
FIELDS |= {"data2vec-text": _ROBERTA | {"vocabulary": ("vocab_size", 30522)}}
PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta.", "distilbert": "distilbert."}
PREFIXES |= {"data2vec-text": "data2vec_text."}
ARCHITECTURES = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "distilbert": "DistilBertModel",
    "data2vec-text": "Data2VecTextModel",
}

# buffers, and heads of pretraining and downstream tasks
ignored = (r"embeddings\.position_ids", r"(cls|lm_head|classifier|pre_classifier|qa_outputs|vocab_\w+)\..*")


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del module
    return inside("encoders_text", DISTILBERT if kind == "distilbert" else BERT)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return PREFIXES[kind]


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json and the names of its tensors.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del processor
    kind = config["model_type"]
    refused = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
    for key, expected in refused.items():
        if config.get(key, expected) != expected:
            raise UserError(f"config.json has {key}={reprlib.repr(config[key])}; only {expected!r} is supported")
    fields = {"types": 0, "pooler": any("pooler.dense." in n for n in names)} | read(config, FIELDS[kind])
    return Encoders({"text": replaced(Bert(fields["vocabulary"]), **fields)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["text"]
    used = {"padding": encoder.padding is not None, "types": encoder.types > 0}
    if wrong := [f"{name}={getattr(encoder, name)}" for name, on in used.items() if on != (name in FIELDS[kind])]:
        raise UserError(f"kind {kind!r} does not describe an encoder with {', '.join(wrong)}")
    return {"model_type": kind, "architectures": [ARCHITECTURES[kind]]} | written(
        kind, encoder, FIELDS[kind], prompts=0
    )


def tokenizer(
    known: Mapping[str, Mapping[str, tuple[str, Any]]],
    folder: pathlib.Path,
    config: Mapping[str, Any],
    limits: Limits = DEFAULT,
    **options: Any,
) -> Callable[..., dict[str, np.ndarray]]:
    """Load the tokenizer; if the folder has none, return a function that raises an error when called.

    Args:
        known: `FIELDS` of the family.
        folder: model folder.
        config: content of config.json.
        limits: as in `load`.
        **options: further arguments of `Tokenizer`: those that a sentence-transformers folder sets.
    """
    fields = read(config, known[config["model_type"]])
    first = fields["padding"] + 1 if "padding" in fields else 0
    padding = None if config.get("pad_token_id") == -1 else field(config, "pad_token_id", None, 0)
    padding = fields.get("padding", 0) if "pad_token_id" not in config else padding or 0
    return optional(
        folder,
        fields["length"] - first,
        padding,
        types=fields.get("types", 0) > 1,
        rows=fields["vocabulary"],
        limits=limits,
        **options,
    )


processor = functools.partial(tokenizer, FIELDS)
