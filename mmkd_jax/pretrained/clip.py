"""CLIP, SigLIP: configurations, tensor names and processors of image–text dual encoders."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.data.tokenizer import optional
from mmkd_jax.errors import UserError
from mmkd_jax.models.clip import Clip, ClipText
from mmkd_jax.models.vit import Vit
from mmkd_jax.pretrained.attributes import field, read, replaced, section, written
from mmkd_jax.pretrained.mapping import CONV, DENSE, EMBED, NORM, ROW, SAME, Table, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layers.{i}"

_LAYERS: Table = {
    f"{OURS}/query": (f"{THEIRS}.self_attn.q_proj", DENSE),
    f"{OURS}/key": (f"{THEIRS}.self_attn.k_proj", DENSE),
    f"{OURS}/value": (f"{THEIRS}.self_attn.v_proj", DENSE),
    f"{OURS}/out": (f"{THEIRS}.self_attn.out_proj", DENSE),
    f"{OURS}/norm_attention": (f"{THEIRS}.layer_norm1", NORM),
    f"{OURS}/norm_output": (f"{THEIRS}.layer_norm2", NORM),
    f"{OURS}/grow": (f"{THEIRS}.mlp.fc1", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.mlp.fc2", DENSE),
}
TEXT: Table = _LAYERS | {
    "tokens": ("embeddings.token_embedding", EMBED),
    "positions": ("embeddings.position_embedding", EMBED),
    "norm": ("final_layer_norm", NORM),
    "head": ("head", DENSE),
}
IMAGE: Table = _LAYERS | {
    "": (
        "embeddings",
        {"class": ("class_embedding", SAME), "positions": ("position_embedding.weight", SAME)}
        | {leaf: (f"patch_embedding.{name}", turn) for leaf, (name, turn) in CONV.items()},
    ),
    "norm_embedded": ("pre_layrnorm", NORM),
    "norm": ("post_layernorm", NORM),
    "probe": (
        "head",
        {"probe": ("probe", ROW)} | {k: (f"attention.in_proj_{n}", turn) for k, (n, turn) in DENSE.items()},
    ),
    "probe/out": ("head.attention.out_proj", DENSE),
    "probe/norm": ("head.layernorm", NORM),
    "probe/grow": ("head.mlp.fc1", DENSE),
    "probe/shrink": ("head.mlp.fc2", DENSE),
}

# our attribute: (key in an encoder's section of config.json, default of CLIP, default of SigLIP)
_TOWER = {
    "num_layers": ("num_hidden_layers", 12, 12),
    "activation": ("hidden_act", "quick_gelu", "gelu_pytorch_tanh"),
    "eps": ("layer_norm_eps", 1e-5, 1e-6),
    "attention_dropout": ("attention_dropout", 0.0, 0.0),
}
_TEXT = _TOWER | {
    "vocabulary": ("vocab_size", 49408, 32000),
    "embed_dim": ("hidden_size", 512, 768),
    "num_heads": ("num_attention_heads", 8, 12),
    "mlp_dim": ("intermediate_size", 2048, 3072),
    "length": ("max_position_embeddings", 77, 64),
}
_IMAGE = _TOWER | {
    "channels": ("num_channels", 3, 3),
    "embed_dim": ("hidden_size", 768, 768),
    "num_heads": ("num_attention_heads", 12, 12),
    "mlp_dim": ("intermediate_size", 3072, 3072),
}
FIELDS = ("clip", "siglip")

ignored = (r"(text|vision)_model\.embeddings\.position_ids", r"classifier\..*")


def table(kind: str, module: Any) -> Table:
    """Return the tensor table of a `model_type`."""
    del module
    towers = {"text": "text_model", "image": "vision_model"}
    merged: Table = {}
    for (modality, name), rows in zip(towers.items(), (TEXT, IMAGE), strict=True):
        named = {path: (f"{name}.{theirs}", rule) for path, (theirs, rule) in rows.items()}
        merged |= inside(f"encoders_{modality}", named)
    scalar = SAME if kind == "clip" else ROW
    merged[""] = ("", {k: (k, scalar) for k in ("logit_scale", "logit_bias")})
    return merged | {"projection_text": ("text_projection", DENSE), "projection_image": ("visual_projection", DENSE)}


def prefix(kind: str) -> str:
    """Return the prefix of tensor names: none in this family."""
    return ""


def _of(kind, fields):
    """Table of a kind, with its defaults."""
    return {ours: (row[0], row[1 if kind == "clip" else 2]) for ours, row in fields.items()}


def build(config: Mapping[str, Any], names: Collection[str], processor: "Both") -> Clip:
    """Build both encoders from config.json and the normalization of its processor.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names
    kind = config["model_type"]
    text, image = (section(config, f"{part}_config") for part in ("text", "vision"))
    if not image.get("vision_use_head", True):
        raise UserError("config.json has vision_use_head=False; only True is supported")
    text_fields, image_fields = read(text, _of(kind, _TEXT)), read(image, _of(kind, _IMAGE))
    sides = {"size": field(image, "image_size", 224), "patch": field(image, "patch_size", 32 if kind == "clip" else 16)}
    image_fields |= {k: (x, x) for k, x in sides.items()}
    image_fields |= {"mean": processor.image.mean, "std": processor.image.std}
    if kind == "clip":
        text_encoder = replaced(ClipText(), **text_fields, end=field(text, "eos_token_id", 49407, 0))
        image_encoder = replaced(Vit(), **image_fields, patch_bias=False, embedded_norm=True)
        return Clip({"text": text_encoder, "image": image_encoder}, field(config, "projection_dim", 512))
    head = field(text, "projection_size", text_fields["embed_dim"])
    text_encoder = replaced(ClipText(), **text_fields, causal=False, end=None, head=head)
    image_encoder = replaced(Vit(), **image_fields, num_prefix_tokens=0, pool="probe")
    return Clip({"text": text_encoder, "image": image_encoder}, None, biased=True)


def describe(kind: str, module: Any) -> dict[str, Any]:
    """Return the config.json of both encoders."""
    text, image = module.encoders["text"], module.encoders["image"]
    prefix = 1 if kind == "clip" else 0
    config: dict[str, Any] = {"text_config": written(kind, text, _of(kind, _TEXT), causal=kind == "clip")}
    config["vision_config"] = written(kind, image, _of(kind, _IMAGE), num_prefix_tokens=prefix)
    config["vision_config"] |= {"image_size": image.size[0], "patch_size": image.patch[0]}
    for part, tower in dict(config).items():
        tower["model_type"] = f"{kind}_{part.removesuffix('_config')}_model"
    if kind == "clip":
        config["text_config"]["eos_token_id"] = text.end
        config["projection_dim"] = module.width
    else:
        config["text_config"]["projection_size"] = text.head
    return {"model_type": kind, "architectures": [f"{'CLIP' if kind == 'clip' else 'Siglip'}Model"]} | config


@dataclasses.dataclass(frozen=True)
class Both:
    """Processor of both encoders: texts, images or both to batch columns.

    Attributes:
        text: tokenizer.
        image: image processor.
        files: processor files of the folder, for saving.
    """

    text: Callable[..., dict[str, np.ndarray]]
    image: images.Pictures
    files: Mapping[str, bytes]

    def __call__(
        self, texts: Sequence[str | bytes] | None = None, pictures: Sequence[Any] | np.ndarray | None = None, **how: Any
    ) -> dict[str, np.ndarray]:
        """Return batch columns for the given inputs; `how` is passed to the tokenizer."""
        columns = {} if texts is None else self.text(texts, **how)
        return columns if pictures is None else columns | self.image(pictures)


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> Both:
    """Build the processor from the tokenizer and preprocessor_config.json.

    SigLIP was trained on texts padded to full length with padding visible, so its processor pads to full length.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    clip, text = config["model_type"] == "clip", section(config, "text_config")
    length = field(text, "max_position_embeddings", 77 if clip else 64)
    padding = (field(text, "pad_token_id", None, 0) or 0) if "pad_token_id" in text else 1
    rows = field(text, "vocab_size", _TEXT["vocabulary"][1 if clip else 2])
    tokenizer = optional(folder, length, padding, whole=not clip, rows=rows, limits=limits)
    defaults: dict[str, Any] = {"size": (224, 224), "resample": 3, "kind": "Siglip"}
    if clip:
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        defaults = {"size": 224, "crop": (224, 224), "resample": 3, "mean": mean, "std": std}
        defaults["kind"] = "CLIP"
    channels = field(section(config, "vision_config"), "num_channels", 3)
    pictures = images.read(folder, defaults, channels=channels)
    return Both(tokenizer, pictures, {**getattr(tokenizer, "files", {}), **pictures.files})
