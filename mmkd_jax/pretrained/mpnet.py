"""MPNet: configuration and tensor names of the text encoder."""

import pathlib
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data.tokenizer import optional
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.mpnet import BUCKETS, MPNet
from mmkd_jax.pretrained import bert
from mmkd_jax.pretrained.attributes import read, replaced, written
from mmkd_jax.pretrained.mapping import DENSE, EMBED, NORM, Table, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layer.{i}"
PADDING = 1
"""Padding id from which positions are counted, which all published models have."""

TABLE: Table = {
    "tokens": ("embeddings.word_embeddings", EMBED),
    "positions": ("embeddings.position_embeddings", EMBED),
    "norm": ("embeddings.LayerNorm", NORM),
    "relative": ("encoder.relative_attention_bias", EMBED),
    f"{OURS}/query": (f"{THEIRS}.attention.attn.q", DENSE),
    f"{OURS}/key": (f"{THEIRS}.attention.attn.k", DENSE),
    f"{OURS}/value": (f"{THEIRS}.attention.attn.v", DENSE),
    f"{OURS}/out": (f"{THEIRS}.attention.attn.o", DENSE),
    f"{OURS}/norm_attention": (f"{THEIRS}.attention.LayerNorm", NORM),
    f"{OURS}/grow": (f"{THEIRS}.intermediate.dense", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.output.dense", DENSE),
    f"{OURS}/norm_output": (f"{THEIRS}.output.LayerNorm", NORM),
    "pooler": ("pooler.dense", DENSE),
}

# our attribute: (key in config.json, default)
_MPNET = {ours: row for ours, row in bert.FIELDS["bert"].items() if ours != "types"} | {
    "vocabulary": ("vocab_size", 30527)
}
FIELDS = {"mpnet": _MPNET}

# buffers, and heads of pretraining and downstream tasks
ignored = (r"embeddings\.position_ids", r"(lm_head|classifier|qa_outputs)\..*")


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_text", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json and the names of its tensors.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del processor
    for key, expected in {"relative_attention_num_buckets": BUCKETS, "pad_token_id": PADDING}.items():
        if config.get(key, expected) != expected:
            raise UserError(f"config.json has {key}={reprlib.repr(config[key])}; only {expected!r} is supported")
    fields = {"pooler": any("pooler.dense." in n for n in names)} | read(config, _MPNET)
    return Encoders({"text": replaced(MPNet(fields["vocabulary"]), **fields, padding=PADDING)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    if not isinstance(module.encoders["text"], MPNet):
        raise UserError(f"kind {kind!r} does not describe {type(module.encoders['text']).__name__}")
    fields = written(kind, module.encoders["text"], _MPNET, padding=PADDING)
    known = {"relative_attention_num_buckets": BUCKETS, "pad_token_id": PADDING}
    return {"model_type": kind, "architectures": ["MPNetModel"]} | known | fields


def processor(
    folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT, **options: Any
) -> Callable[..., dict[str, np.ndarray]]:
    """Load the tokenizer, with those options; if the folder has none, return a function that raises an error."""
    fields = read(config, _MPNET)
    length, rows = fields["length"] - PADDING - 1, fields["vocabulary"]
    return optional(folder, length, PADDING, rows=rows, limits=limits, **options)
