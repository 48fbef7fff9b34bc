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
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.vit import Vit
from mmkd_jax.pretrained.attributes import field, read, replaced, section, written
from mmkd_jax.pretrained.heads import architecture
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
_TOWERS = {"text": "text_model", "image": "vision_model"}
_OF_TOWER = {f"{base}_{tower}": m for base in ("clip", "siglip") for m, tower in _TOWERS.items()}
"""`model_type` of a single encoder -> its modality."""
FIELDS = ("clip", "siglip", *_OF_TOWER)
_CLASSIFIERS = ("CLIPForImageClassification", "SiglipForImageClassification")

ignored = (r"((text|vision)_model\.)?embeddings\.position_ids", r"classifier\..*")


def table(kind: str, module: Any) -> Table:
    """Return the tensor table of a `model_type`."""
    merged: Table = {}
    for modality, rows in (("text", TEXT), ("image", IMAGE)):
        scope = "" if kind in _OF_TOWER else f"{_TOWERS[modality]}."
        named = {path: (f"{scope}{theirs}", rule) for path, (theirs, rule) in rows.items()}
        merged |= inside(f"encoders_{modality}", named) if modality in module.encoders else {}
    scalar = SAME if _base(kind) == "clip" else ROW
    merged[""] = ("", {k: (k, scalar) for k in ("logit_scale", "logit_bias")})
    return merged | {"projection_text": ("text_projection", DENSE), "projection_image": ("visual_projection", DENSE)}


def prefix(kind: str) -> str:
    """Return the prefix of tensor names, which single encoders with a projection have."""
    return f"{_TOWERS[_OF_TOWER[kind]]}." if kind in _OF_TOWER else ""


def _base(kind):
    """Family of a kind: "clip" or "siglip"."""
    return kind.partition("_")[0]


def _of(kind, fields):
    """Table of a kind, with its defaults."""
    return {ours: (row[0], row[1 if _base(kind) == "clip" else 2]) for ours, row in fields.items()}


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Clip | Encoders:
    """Build both encoders, or the only one, from config.json and the normalization of its processor.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    kind = config["model_type"]
    if kind in _OF_TOWER:
        modality = _OF_TOWER[kind]
        encoder = _text(kind, config) if modality == "text" else _image(kind, config, processor)
        if f"{'text' if modality == 'text' else 'visual'}_projection.weight" not in names:
            return Encoders({modality: encoder})
        return Clip({modality: encoder}, field(config, "projection_dim", 512), scaled=False)
    text, image = (section(config, f"{part}_config") for part in ("text", "vision"))
    image_encoder = _image(kind, image, getattr(processor, "image", processor))
    if architecture(config) in _CLASSIFIERS:
        return Encoders({"image": image_encoder})
    encoders = {"text": _text(kind, text), "image": image_encoder}
    if kind == "clip":
        return Clip(encoders, field(config, "projection_dim", 512))
    return Clip(encoders, None, biased=True)


def _text(kind, config):
    fields = read(config, _of(kind, _TEXT))
    if _base(kind) == "clip":
        return replaced(ClipText(), **fields, end=field(config, "eos_token_id", 49407, 0))
    head = field(config, "projection_size", fields["embed_dim"])
    return replaced(ClipText(), **fields, causal=False, end=None, head=head)


def _image(kind, config, pictures):
    if not config.get("vision_use_head", True):
        raise UserError("config.json has vision_use_head=False; only True is supported")
    clip = _base(kind) == "clip"
    sides = {"size": field(config, "image_size", 224), "patch": field(config, "patch_size", 32 if clip else 16)}
    fields = read(config, _of(kind, _IMAGE)) | {k: (x, x) for k, x in sides.items()}
    fields |= {"mean": pictures.mean, "std": pictures.std}
    if clip:
        return replaced(Vit(), **fields, patch_bias=False, embedded_norm=True)
    return replaced(Vit(), **fields, num_prefix_tokens=0, pool="probe")


def describe(kind: str, module: Any) -> dict[str, Any]:
    """Return the config.json of both encoders, or of the only one."""
    base = _base(kind)
    described: dict[str, dict[str, Any]] = {}
    for modality, encoder in module.encoders.items():
        model_type = f"{base}_{_TOWERS[modality]}"
        if modality == "text":
            more = {"eos_token_id": encoder.end} if base == "clip" else {"projection_size": encoder.head}
            fields = written(kind, encoder, _of(kind, _TEXT), causal=base == "clip")
        else:
            more = {"image_size": encoder.size[0], "patch_size": encoder.patch[0]}
            prefix_tokens = 1 if base == "clip" else 0
            fields = written(kind, encoder, _of(kind, _IMAGE), num_prefix_tokens=prefix_tokens, prompts=0)
        described[modality] = {"model_type": model_type} | fields | more
    name = "CLIP" if base == "clip" else "Siglip"
    width = {"projection_dim": module.width} if getattr(module, "width", None) is not None else {}
    if kind in _OF_TOWER:
        modality = _OF_TOWER[kind]
        which = f"{name}{'Text' if modality == 'text' else 'Vision'}Model{'WithProjection' if width else ''}"
        return described[modality] | {"architectures": [which]} | width
    sections = {f"{'vision' if m == 'image' else m}_config": x for m, x in described.items()}
    return {"model_type": kind, "architectures": [f"{name}Model"]} | sections | width


@dataclasses.dataclass(frozen=True)
class Both:
    """Processor of both encoders: texts, images or both to batch columns.

    Attributes:
        text: tokenizer.
        image: image processor.
        files: processor files of the folder, for saving.
    """

    text: Callable[..., dict[str, np.ndarray]]
    image: images.ImageProcessor
    files: Mapping[str, bytes] = dataclasses.field(repr=False)

    def __call__(
        self, texts: Sequence[str | bytes] | None = None, pictures: Sequence[Any] | np.ndarray | None = None, **how: Any
    ) -> dict[str, np.ndarray]:
        """Return batch columns for the given inputs; `how` is passed to the tokenizer."""
        columns = {} if texts is None else self.text(texts, **how)
        return columns if pictures is None else columns | self.image(pictures)


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> Any:
    """Build the processor from the tokenizer and preprocessor_config.json; that of a single encoder is one of them.

    SigLIP was trained on texts padded to full length with padding visible, so its processor pads to full length.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    kind = config["model_type"]
    clip, modality = _base(kind) == "clip", _OF_TOWER.get(kind)
    tokenizer: Any = None
    if modality != "image":
        text = config if modality else section(config, "text_config")
        length = field(text, "max_position_embeddings", 77 if clip else 64)
        padding = field(text, "pad_token_id", None, 0)
        rows = field(text, "vocab_size", _TEXT["vocabulary"][1 if clip else 2])
        padding = 1 if padding is None else padding
        tokenizer = optional(folder, length, padding, whole=not clip, rows=rows, limits=limits)
    if modality == "text":
        return tokenizer
    defaults: dict[str, Any] = {"size": (224, 224), "resample": 3, "kind": "Siglip"}
    if clip:
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        defaults = {"size": 224, "crop": (224, 224), "resample": 3, "mean": mean, "std": std, "kind": "CLIP"}
    channels = field(config if modality else section(config, "vision_config"), "num_channels", 3)
    pictures = images.read(folder, defaults, channels=channels, limits=limits)
    if modality == "image" or architecture(config) in _CLASSIFIERS:
        return pictures
    return Both(tokenizer, pictures, {**getattr(tokenizer, "files", {}), **pictures.files})
