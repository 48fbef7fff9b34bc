"""Small image encoders of every family, and those of texts and images."""

import copy

import numpy as np
import transformers

from tests.parity.cases import ROWS, TOWERS, Case, stack
from tests.parity.text_cases import LENGTH, SMALL, texts


def image_case(family, kind, size=(8, 12), extra=1, pooler=True, given=None, **fields):
    config = getattr(transformers, f"{kind}Config")(image_size=list(size), patch_size=4, num_hidden_layers=3, **fields)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *(given or size), 3), dtype=np.uint8)
    mean, std = (np.array(x, np.float32) for x in MEANS[kind])
    inputs = {"pixel_values": ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)}

    def outputs(out):
        found = stack("image", out) | {"tokens.image": out.last_hidden_state}
        return found | ({"pooled.image": out.pooler_output} if pooler else {})

    def make():
        more = {} if pooler or kind.startswith("Dinov2") else {"add_pooling_layer": False}
        return getattr(transformers, f"{kind}Model")(config, **more)

    return Case(family, make, {"image": pixels}, inputs, outputs)


HALF = ((0.5,) * 3, (0.5,) * 3)
MEANS = {"ViT": HALF, "DeiT": HALF, "Dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
MEANS["Dinov2WithRegisters"] = MEANS["Dinov2"]
IMAGE = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40}
CASES = {
    "vit": image_case("ViT", "ViT", **IMAGE, layer_norm_eps=1e-3),
    "vit, no bias, no pooler": image_case("ViT", "ViT", pooler=False, **IMAGE, qkv_bias=False, hidden_act="gelu_new"),
    "vit, another pooler": image_case("ViT", "ViT", **IMAGE, pooler_output_size=10, pooler_act="relu"),
    "deit": image_case("DeiT", "DeiT", **IMAGE | {"num_attention_heads": 1}),
    "dinov2": image_case("DINOv2", "Dinov2", (8, 8), pooler=False, hidden_size=24, num_attention_heads=3, mlp_ratio=2),
    "dinov2, gated, larger images": image_case(
        "DINOv2", "Dinov2", (16, 16), pooler=False, given=(24, 12), hidden_size=24, num_attention_heads=2,
        use_swiglu_ffn=True,
    ),
    "dinov2, registers": image_case(
        "DINOv2 with registers", "Dinov2WithRegisters", (8, 8), pooler=False, hidden_size=24, num_attention_heads=3,
        mlp_ratio=2, num_register_tokens=3,
    ),
    "dinov2, registers, gated, other images": image_case(
        "DINOv2 with registers", "Dinov2WithRegisters", (24, 24), pooler=False, given=(8, 28), hidden_size=24,
        num_attention_heads=2, use_swiglu_ffn=True,
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
    seen = image_case(family, "ViT", (config.vision_config.image_size,) * 2)
    mean, std = (np.array(x, np.float32) for x in MEANS[kind])
    pixels = ((seen.batch["image"] / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    batch, inputs = batch | seen.batch, inputs | {"pixel_values": pixels}

    def outputs(out):
        found = {}
        for modality, own in zip(TOWERS, (out.text_model_output, out.vision_model_output), strict=True):
            found |= stack(modality, own) | {f"embedding.{modality}": own.pooler_output}
        return found | {"similarity": out.logits_per_text}

    return Case(family, lambda: getattr(transformers, f"{kind}Model")(config), batch, inputs, outputs)


TOWER = {"num_hidden_layers": 2, "image_size": 8, "patch_size": 4, "hidden_size": 24, "intermediate_size": 40}
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
MEANS |= {"CLIP": CLIP, "Siglip": HALF, "ConvNextV2": HALF}
CASES |= {
    "clip": pair_case("CLIP", "CLIP", {"eos_token_id": 49}, {"num_attention_heads": 3}, projection_dim=10),
    "clip, old end, exact gelu": pair_case(
        "CLIP", "CLIP", {"eos_token_id": 2, "hidden_act": "gelu"}, {"num_attention_heads": 1, "hidden_act": "gelu"},
        projection_dim=24,
    ),
    "siglip": pair_case("SigLIP", "Siglip", {}, {"num_attention_heads": 3}),
    "siglip, larger than its patches": pair_case(
        "SigLIP", "Siglip", {"num_attention_heads": 1}, {"num_attention_heads": 2, "image_size": 11}
    ),
}  # fmt: skip


def map_case(family, kind, size, **fields):
    """A convolutional encoder: its maps, and the mean over places of the last."""
    config = getattr(transformers, f"{kind}Config")(**fields)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *size, 3), dtype=np.uint8)
    mean, std = (np.array(x, np.float32) for x in MEANS.get(kind, MEANS["Dinov2"]))
    inputs = {"pixel_values": ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)}

    def outputs(out):
        maps = {f"hidden.image.{i}": x.permute(0, 2, 3, 1) for i, x in enumerate(out.hidden_states)}
        return maps | {"features.image": out.pooler_output.reshape(ROWS, -1)}

    def make():
        return getattr(transformers, f"{kind}Model")(config)

    return Case(family, make, {"image": pixels}, inputs, outputs, attends=False)


def window_case(size, given=None, **fields):
    """Swin: transformers gives the tokens after each stage, merged, and the attention of its last layer."""
    config = transformers.SwinConfig(image_size=list(size), patch_size=2, embed_dim=8, **fields)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *(given or size), 3), dtype=np.uint8)
    inputs = {"pixel_values": ((pixels / np.float32(255) - 0.5) / 0.5).transpose(0, 3, 1, 2).astype(np.float32)}
    ends = np.cumsum(config.depths)

    def outputs(out):
        first, *merged, last = out.hidden_states
        found = {f"merged.image.{i}": x for i, x in enumerate(merged)}
        found |= {"hidden.image.0": first, f"hidden.image.{ends[-1]}": last}
        maps = {f"attentions.image.{i - 1}": x for i, x in zip(ends, out.attentions, strict=True)}
        found |= {n: x.reshape(ROWS, -1, *x.shape[1:]) for n, x in maps.items()}
        return found | {"tokens.image": out.last_hidden_state, "features.image": out.pooler_output}

    return Case("Swin", lambda: transformers.SwinModel(config), {"image": pixels}, inputs, outputs)


CASES |= {
    "swin": window_case((16, 16), depths=[2, 3], num_heads=[1, 4], window_size=4, layer_norm_eps=1e-3),
    "swin, other images, filled": window_case(
        (24, 24),
        (19, 26),
        depths=[2, 2, 1],
        num_heads=[2, 2, 2],
        window_size=3,
        qkv_bias=False,
        hidden_act="relu",
        mlp_ratio=1.5,
    ),
    "swin, positions": window_case(
        (8, 12), depths=[2, 1], num_heads=[2, 2], window_size=2, use_absolute_embeddings=True, mlp_ratio=2
    ),
}


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
    "convnext v2": map_case("ConvNeXt V2", "ConvNextV2", (17, 24), **MAPS, num_stages=2, layer_norm_eps=1e-3),
}


def tower_case(pair, modality, name):
    """One tower alone, with or without its projection."""
    case = CASES[pair]
    column = "pixel_values" if modality == "image" else "input_ids"

    def make():
        both = copy.deepcopy(case.make().config)
        config = both.vision_config if modality == "image" else both.text_config
        if name.endswith("WithProjection"):
            config.projection_dim = both.projection_dim
        return getattr(transformers, name)(config)

    def outputs(out):
        if name.endswith("WithProjection"):
            return stack(modality, out) | {f"embedding.{modality}": out[f"{modality}_embeds"]}
        return stack(modality, out) | {f"features.{modality}": out.pooler_output}

    batch = {k: x for k, x in case.batch.items() if k.startswith(modality)}
    inputs = {k: x for k, x in case.inputs.items() if (k == "pixel_values") == (column == "pixel_values")}
    return Case(case.family, make, batch, inputs, outputs)


CASES |= {
    f"{pair}, {name}": tower_case(pair, "image" if "Vision" in name else "text", name)
    for pair, names in {
        "clip": ("CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPTextModel", "CLIPTextModelWithProjection"),
        "siglip": ("SiglipVisionModel", "SiglipTextModel"),
    }.items()
    for name in names
}


def block_case(size, **fields):
    """MobileNet V2: the maps of its blocks and of its head."""
    config = transformers.MobileNetV2Config(**fields)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *size, 3), dtype=np.uint8)
    inputs = {"pixel_values": ((pixels / np.float32(255) - 0.5) / 0.5).transpose(0, 3, 1, 2).astype(np.float32)}

    def outputs(out):
        maps = enumerate([*out.hidden_states, out.last_hidden_state], 1)
        return {f"hidden.image.{i}": x.permute(0, 2, 3, 1) for i, x in maps} | {"features.image": out.pooler_output}

    def make():
        return transformers.MobileNetV2Model(config)

    return Case("MobileNet V2", make, {"image": pixels}, inputs, outputs, attends=False)


CASES |= {
    "mobilenet v2": block_case((36, 33), depth_multiplier=0.1, finegrained_output=False),
    "mobilenet v2, dilated, other paddings": block_case(
        (32, 32), depth_multiplier=0.1, output_stride=8, tf_padding=False, first_layer_is_expansion=False,
        depth_divisible_by=4, min_depth=4, expand_ratio=2, hidden_act="relu", layer_norm_eps=1e-2,
    ),
}  # fmt: skip
