"""ELECTRA and ALBERT: configurations and tensor names of text encoders with narrow embeddings."""

import functools
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.factorized import FactorizedBert
from mmkd_jax.pretrained import bert
from mmkd_jax.pretrained.attributes import read, replaced, written
from mmkd_jax.pretrained.mapping import DENSE, EMBED, NORM, Table, inside

LAYERS = 256
"""Most layers of an ALBERT, whose tensors do not bound their number."""

_SHARED, _GROUP = "transformer/layer_0", "encoder.albert_layer_groups.0.albert_layers.0"
_EMBEDDED: Table = {
    "embedded/tokens": ("embeddings.word_embeddings", EMBED),
    "embedded/positions": ("embeddings.position_embeddings", EMBED),
    "embedded/types": ("embeddings.token_type_embeddings", EMBED),
    "embedded/norm": ("embeddings.LayerNorm", NORM),
}
ELECTRA: Table = _EMBEDDED | {
    "projected": ("embeddings_project", DENSE),
    **{ours: row for ours, row in bert.BERT.items() if ours.startswith(bert.LAYER)},
}
ALBERT: Table = _EMBEDDED | {
    "projected": ("encoder.embedding_hidden_mapping_in", DENSE),
    f"{_SHARED}/query": (f"{_GROUP}.attention.query", DENSE),
    f"{_SHARED}/key": (f"{_GROUP}.attention.key", DENSE),
    f"{_SHARED}/value": (f"{_GROUP}.attention.value", DENSE),
    f"{_SHARED}/out": (f"{_GROUP}.attention.dense", DENSE),
    f"{_SHARED}/norm_attention": (f"{_GROUP}.attention.LayerNorm", NORM),
    f"{_SHARED}/grow": (f"{_GROUP}.ffn", DENSE),
    f"{_SHARED}/shrink": (f"{_GROUP}.ffn_output", DENSE),
    f"{_SHARED}/norm_output": (f"{_GROUP}.full_layer_layer_norm", NORM),
    "pooler": ("pooler", DENSE),
}

# our attribute: (key in config.json, default)
_ELECTRA = bert.FIELDS["bert"] | {
    "embedding": ("embedding_size", 128),
    "embed_dim": ("hidden_size", 256),
    "num_heads": ("num_attention_heads", 4),
    "mlp_dim": ("intermediate_size", 1024),
}
_ALBERT = _ELECTRA | {
    "vocabulary": ("vocab_size", 30000),
    "embed_dim": ("hidden_size", 4096),
    "num_heads": ("num_attention_heads", 64),
    "mlp_dim": ("intermediate_size", 16384),
    "activation": ("hidden_act", "gelu_new"),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.0),
}
FIELDS = {"electra": _ELECTRA, "albert": _ALBERT}
ARCHITECTURES = {"electra": "ElectraModel", "albert": "AlbertModel"}

# buffers, and heads of pretraining and downstream tasks
ignored = (
    r"embeddings\.position_ids",
    r"(discriminator_predictions|generator_predictions|generator_lm_head|sequence_summary)\..*",
    r"(predictions|sop_classifier|classifier|qa_outputs)\..*",
)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del module
    return inside("encoders_text", ALBERT if kind == "albert" else ELECTRA)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json and the names of its tensors.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del processor
    kind, albert = config["model_type"], config["model_type"] == "albert"
    refused: dict[str, Any] = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
    refused |= {"num_hidden_groups": 1, "inner_group_num": 1} if albert else {}
    for key, expected in refused.items():
        if config.get(key, expected) != expected:
            raise UserError(f"config.json has {key}={reprlib.repr(config[key])}; only {expected!r} is supported")
    fields = {"shared": albert} | read(config, FIELDS[kind])
    if albert and fields["num_layers"] > LAYERS:
        raise UserError(f"config.json has num_hidden_layers={fields['num_layers']}; expected at most {LAYERS}")
    fields["projected"] = albert or fields["embedding"] != fields["embed_dim"]
    fields["pooler"] = albert and any(n.endswith("pooler.weight") for n in names)
    return Encoders({"text": replaced(FactorizedBert(fields["vocabulary"]), **fields)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder, albert = module.encoders["text"], kind == "albert"
    expected: dict[str, Any] = {"shared": albert}
    expected["projected"] = albert or encoder.embedding != encoder.config.embed_dim
    expected |= {} if albert else {"pooler": False}
    fields = written(kind, encoder, FIELDS[kind], **expected)
    return {"model_type": kind, "architectures": [ARCHITECTURES[kind]]} | fields


processor = functools.partial(bert.tokenizer, FIELDS)
