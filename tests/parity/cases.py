"""Published models with the same weights in PyTorch and here: small ones of every family, drawn at random.

Every parameter and buffer is drawn anew, so that a bias, a norm's statistics or a table that is left out is noticed.
"""

import contextlib
import logging
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import transformers

from mmkd_jax import pretrained
from mmkd_jax.views import Context, linen

ROWS, LENGTH = 3, 9


class Case(NamedTuple):
    """A model of PyTorch and what it is compared on.

    Attributes:
        family: the row's name in the table.
        make: gives the model.
        batch: columns, as ours takes them.
        inputs: the model's arguments for them.
        outputs: our name -> theirs, of the model's output.
        masked: the mask under which texts are compared.
        attends: whether the model has attention maps.
    """

    family: str
    make: Callable[[], torch.nn.Module]
    batch: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: Callable[[Any], dict[str, torch.Tensor]]
    masked: str = ""
    attends: bool = True


def texts(vocabulary: int, padding: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A batch of token ids of unlike lengths, and the same as arguments."""
    draw, lengths = np.random.default_rng(0), np.array([LENGTH, 5, 1])
    mask = np.arange(LENGTH)[None] < lengths[:, None]
    ids = np.where(mask, draw.integers(padding + 1, vocabulary, (ROWS, LENGTH)), padding)
    return {"text.ids": ids.astype(np.int32), "text.mask": mask}, {"input_ids": ids, "attention_mask": mask.astype(int)}


def stack(modality: str, out: Any) -> dict[str, torch.Tensor]:
    """What every Transformer of transformers gives."""
    found = {f"hidden.{modality}.{i}": x for i, x in enumerate(out.hidden_states)}
    return found | {f"attentions.{modality}.{i}": x for i, x in enumerate(out.attentions)}


def text_case(family, kind, types=False, pooler=True, **fields):
    config = getattr(transformers, f"{kind}Config")(**fields)
    padding = config.pad_token_id
    batch, inputs = texts(config.vocab_size, padding)
    if types:
        batch["text.types"] = (np.arange(LENGTH)[None] > np.array([4, 2, 0])[:, None]).astype(np.int32)
        inputs["token_type_ids"] = batch["text.types"].astype(int)

    def outputs(out):
        return stack("text", out) | ({"pooled.text": out.pooler_output} if pooler else {})

    def make():
        more = {"add_pooling_layer": False} if kind != "DistilBert" and not pooler else {}
        return getattr(transformers, f"{kind}Model")(config, **more)

    return Case(family, make, batch, inputs, outputs, "text.mask")


SMALL = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
CASES = {
    "bert": text_case("BERT", "Bert", types=True, **SMALL, layer_norm_eps=1e-3),
    "bert, one head, relu, no pooler": text_case(
        "BERT", "Bert", pooler=False, **SMALL | {"num_attention_heads": 1}, hidden_act="relu", type_vocab_size=1
    ),
    "bert, tanh gelu, few positions": text_case(
        "BERT", "Bert", **SMALL | {"num_attention_heads": 12}, hidden_act="gelu_new", max_position_embeddings=LENGTH
    ),
    "roberta": text_case("RoBERTa", "Roberta", **SMALL, pad_token_id=1, max_position_embeddings=LENGTH + 2),
    "roberta, other padding": text_case("RoBERTa", "Roberta", pooler=False, **SMALL, pad_token_id=3, type_vocab_size=2),
    "xlm-roberta": text_case("XLM-R", "XLMRoberta", **SMALL, pad_token_id=1, layer_norm_eps=1e-5),
    "distilbert": text_case(
        "DistilBERT", "DistilBert", pooler=False, vocab_size=50, dim=24, n_layers=3, n_heads=4, hidden_dim=40
    ),
    "distilbert, sinusoidal, relu": text_case(
        "DistilBERT", "DistilBert", pooler=False, vocab_size=50, dim=24, n_layers=1, n_heads=2, hidden_dim=48,
        sinusoidal_pos_embds=True, activation="relu",
    ),
}  # fmt: skip


def image_case(family, kind, size=(8, 12), extra=1, pooler=True, given=None, **fields):
    config = getattr(transformers, f"{kind}Config")(image_size=list(size), patch_size=4, num_hidden_layers=3, **fields)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *(given or size), 3), dtype=np.uint8)
    mean, std = (np.array(x, np.float32) for x in MEANS[kind])
    inputs = {"pixel_values": ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)}

    def outputs(out):
        found = stack("image", out) | {"tokens.image": out.last_hidden_state}
        return found | ({"pooled.image": out.pooler_output} if pooler else {})

    def make():
        more = {} if pooler or kind == "Dinov2" else {"add_pooling_layer": False}
        return getattr(transformers, f"{kind}Model")(config, **more)

    return Case(family, make, {"image": pixels}, inputs, outputs)


HALF = ((0.5,) * 3, (0.5,) * 3)
MEANS = {"ViT": HALF, "DeiT": HALF, "Dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
IMAGE = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40}
CASES |= {
    "vit": image_case("ViT", "ViT", **IMAGE, layer_norm_eps=1e-3),
    "vit, no bias, no pooler": image_case("ViT", "ViT", pooler=False, **IMAGE, qkv_bias=False, hidden_act="gelu_new"),
    "vit, another pooler": image_case("ViT", "ViT", **IMAGE, pooler_output_size=10, pooler_act="relu"),
    "deit": image_case("DeiT", "DeiT", **IMAGE | {"num_attention_heads": 1}),
    "dinov2": image_case("DINOv2", "Dinov2", (8, 8), pooler=False, hidden_size=24, num_attention_heads=3, mlp_ratio=2),
    "dinov2, gated, larger images": image_case(
        "DINOv2", "Dinov2", (16, 16), pooler=False, given=(24, 12), hidden_size=24, num_attention_heads=2,
        use_swiglu_ffn=True,
    ),
}  # fmt: skip


def pair_case(family, kind, text, image, **fields):
    """Both towers of CLIP or SigLIP."""
    towers = {"text_config": SMALL | {"max_position_embeddings": LENGTH} | text, "vision_config": TOWER | image}
    config = getattr(transformers, f"{kind}Config")(**towers, **fields)
    batch, inputs = texts(47, 1)
    ends = batch["text.mask"].sum(1) - 1
    for ids in (batch["text.ids"], inputs["input_ids"]):
        ids[np.arange(ROWS), ends] = 49  # the largest, and the end
    if kind == "Siglip":  # padding is seen
        batch["text.mask"], inputs = np.ones((ROWS, LENGTH), bool), {"input_ids": inputs["input_ids"]}
    seen = image_case(family, "ViT", (8, 8))
    mean, std = (np.array(x, np.float32) for x in MEANS[kind])
    pixels = ((seen.batch["image"] / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    batch, inputs = batch | seen.batch, inputs | {"pixel_values": pixels}

    def outputs(out):
        found = {}
        for modality, own in zip(TOWERS, (out.text_model_output, out.vision_model_output), strict=True):
            found |= stack(modality, own) | {f"embedding.{modality}": own.pooler_output}
        return found | {"similarity": out.logits_per_text}

    return Case(family, lambda: getattr(transformers, f"{kind}Model")(config), batch, inputs, outputs, "text.mask")


TOWERS = ("text", "image")
TOWER = {"num_hidden_layers": 2, "image_size": 8, "patch_size": 4, "hidden_size": 24, "intermediate_size": 40}
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
MEANS |= {"CLIP": CLIP, "Siglip": HALF}
CASES |= {
    "clip": pair_case("CLIP", "CLIP", {"eos_token_id": 49}, {"num_attention_heads": 3}, projection_dim=10),
    "clip, old end, exact gelu": pair_case(
        "CLIP", "CLIP", {"eos_token_id": 2, "hidden_act": "gelu"}, {"num_attention_heads": 1, "hidden_act": "gelu"},
        projection_dim=24,
    ),
    "siglip": pair_case("SigLIP", "Siglip", {}, {"num_attention_heads": 3}),
}  # fmt: skip


def map_case(family, kind, size, **fields):
    """A convolutional encoder: its maps, and the mean over places of the last."""
    config = getattr(transformers, f"{kind}Config")(**fields)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *size, 3), dtype=np.uint8)
    mean, std = (np.array(x, np.float32) for x in MEANS["Dinov2"])
    inputs = {"pixel_values": ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)}

    def outputs(out):
        maps = {f"hidden.image.{i}": x.permute(0, 2, 3, 1) for i, x in enumerate(out.hidden_states)}
        return maps | {"features.image": out.pooler_output.reshape(ROWS, -1)}

    def make():
        return getattr(transformers, f"{kind}Model")(config)

    return Case(family, make, {"image": pixels}, inputs, outputs, attends=False)


MAPS = {"hidden_sizes": [16, 24], "depths": [2, 1]}
CASES |= {
    "resnet": map_case("ResNet", "ResNet", (32, 40), **MAPS, embedding_size=8),
    "resnet, basic, halved": map_case(
        "ResNet", "ResNet", (33, 32), **MAPS, embedding_size=16, layer_type="basic", downsample_in_first_stage=True
    ),
    "resnet, early, silu": map_case(
        "ResNet", "ResNet", (32, 32), **MAPS, embedding_size=8, downsample_in_bottleneck=True, hidden_act="silu"
    ),
    "convnext": map_case("ConvNeXt", "ConvNext", (32, 24), **MAPS, num_stages=2, layer_norm_eps=1e-3),
    "convnext, no scale": map_case(
        "ConvNeXt", "ConvNext", (16, 16), **MAPS, num_stages=2, patch_size=2, layer_scale_init_value=0.0
    ),
}


def spoil(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter and floating buffer drawn anew, with scales that keep the hidden states of the size of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if x.is_floating_point():
                noise = torch.randn(x.shape, generator=generator)
                if name.endswith("running_var"):
                    x.copy_(noise.abs() + 0.5)
                else:
                    x.copy_(noise * (x.shape[-1] ** -0.5 if x.ndim > 1 else 0.3) + (x.ndim == 1) * (x == 1).float())
    return model.eval()


@contextlib.contextmanager
def quiet():
    """transformers' progress bars and notes are not what a test wants to show."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(before)


def reference(model: torch.nn.Module, case: Case) -> dict[str, np.ndarray]:
    """What PyTorch says."""
    asked = {"output_hidden_states": True}
    if case.attends:  # by default transformers' attention gives no maps
        model.set_attn_implementation("eager")
        asked["output_attentions"] = True
    with torch.no_grad():
        out = model(**{k: torch.as_tensor(x) for k, x in case.inputs.items()}, **asked)
    return {k: x.numpy() for k, x in case.outputs(out).items()}


def answer(loaded: pretrained.Pretrained, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What we say."""
    model = linen(loaded.module)
    seen = batch | {"example_id": np.arange(len(next(iter(batch.values()))), dtype=np.int32)}
    run = jax.jit(lambda v, b: model.apply(v, b, Context(0, jax.random.key(0), False), {})[0])
    found = {k: np.asarray(x) for k, x in run(loaded.variables, seen).items()}
    if "logit_scale" in found:
        text, image = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found[f"embedding.{m}"] for m in TOWERS))
        found["similarity"] = np.exp(found["logit_scale"]) * text @ image.T + found.get("logit_bias", 0)
    return found


def saved(case: Case, folder: pathlib.Path) -> torch.nn.Module:
    """The case's model, written to the folder as transformers does."""
    with quiet():
        model = spoil(case.make())
        model.save_pretrained(folder)
    return model


def gaps(case: Case, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Name -> largest difference and largest reference value, where the mask is true."""
    found = {}
    for name, x in theirs.items():
        y = ours[name]
        assert x.shape == y.shape, f"{name}: {y.shape}, expected {x.shape}"
        if case.masked and ".text." in name:
            mask = case.batch[case.masked]
            if name.startswith("hidden."):
                x, y = x[mask], y[mask]
            elif name.startswith("attentions."):
                x, y = (np.moveaxis(z, 1, 2)[mask] for z in (x, y))
        found[name] = float(np.abs(x - y).max()), float(np.abs(x).max())
    return found
