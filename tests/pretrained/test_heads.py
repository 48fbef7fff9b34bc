"""Heads of fine-tuned encoders without PyTorch: what is read, and what a folder says about what was saved."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmkd_jax import pretrained
from mmkd_jax.data import Pictures, train_tokenizer
from mmkd_jax.data.tokenizer import NoTokenizer
from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Bert,
    Clip,
    ClipText,
    Deberta,
    Encoders,
    FactorizedBert,
    MobileNetV2,
    ModernBert,
    TransformerConfig,
    Vit,
)
from mmkd_jax.models.heads import TaskHead
from mmkd_jax.pretrained import heads
from mmkd_jax.pretrained.attributes import replaced
from mmkd_jax.pretrained.clip import Both
from mmkd_jax.pretrained.loading import FAMILIES
from tests.small import equal

SIZES = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "mlp_dim": 12, "length": 9}


def small(encoder, head=None, **changes):
    return Encoders({"text": replaced(encoder, **SIZES | changes)}, {"logits": head} if head else {})


def zeros(module):
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(lambda: pretrained.initial(module)))


def test_the_first_names_of_a_layer_norm_are_known_in_heads(tmp_path):
    """bert-base-uncased is published as a masked language model with these names."""
    config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12)
    head = TaskHead(20, read="tokens", width=8, activation="gelu", norm="hidden", tied=True)
    module = Encoders({"text": Bert(20, config, length=9)}, {"logits": head})
    variables = jax.tree.map(
        lambda x: np.random.default_rng(x.size).normal(size=x.shape).astype(x.dtype), zeros(module)
    )
    pretrained.save(tmp_path, "bert", module, variables)
    before = pretrained.load(tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = load_file(tmp_path / "model.safetensors")
    for now, first in old.items():
        tensors = {k.replace(now, first): x for k, x in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = pretrained.load(tmp_path)
    assert loaded.module == before.module == module and equal(loaded.variables, before.variables)


@pytest.mark.parametrize("norm_bias", [False, True])
def test_a_new_head_has_the_biases_that_config_json_describes(norm_bias, tmp_path):
    module = small(ModernBert(20), norm_bias=norm_bias)
    loaded = pretrained.Pretrained(module, zeros(module), None, "modernbert")
    tuned = pretrained.with_head(loaded, ("no", "yes"))
    pretrained.save(tmp_path, "modernbert", tuned.module, zeros(tuned.module))
    config = json.loads((tmp_path / "config.json").read_text())
    names = load_file(tmp_path / "model.safetensors").keys()
    for layer, key in (("norm", "norm_bias"), ("dense", "classifier_bias")):  # which transformers follows
        assert (f"head.{layer}.bias" in names) == config[key] == norm_bias
    other = tuned.module.clone(heads={"logits": tuned.module.heads["logits"].clone(bias=not norm_bias)})
    with pytest.raises(UserError, match=f"bias={not norm_bias} on an encoder with norm_bias={norm_bias}"):
        pretrained.save(tmp_path, "modernbert", other, zeros(other))


@pytest.mark.parametrize(
    ("kind", "encoder", "changes"),
    [
        ("bert", Bert(20), {}),
        ("electra", FactorizedBert(20), {"embedding": 6}),
        ("albert", FactorizedBert(20), {"embedding": 6, "shared": True, "pooler": True}),
        ("deberta-v2", Deberta(20), {}),
        ("modernbert", ModernBert(20), {}),
    ],
)
def test_the_padding_id_survives(kind, encoder, changes, tmp_path):
    """With a tokenizer that names no padding token, and without one; unknown ids are null, not another token."""
    module = small(encoder, **changes)
    pretrained.save(tmp_path / "bare", kind, module, zeros(module))
    config = json.loads((tmp_path / "bare" / "config.json").read_text())
    assert config["pad_token_id"] is None
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config | {"pad_token_id": 7}))
    for name, files in (("without", {}), ("with", train_tokenizer(["a day"] * 2, 9, 9).files)):
        for file, content in files.items():
            (tmp_path / "bare" / file).write_bytes(content)
        loaded = pretrained.load(tmp_path / "bare")
        pretrained.save(tmp_path / name, kind, loaded.module, loaded.variables, loaded.processor)
        assert json.loads((tmp_path / name / "config.json").read_text())["pad_token_id"] == 7
        assert pretrained.load(tmp_path / name).processor.padding == 7


def test_the_padding_id_of_clip_is_its_texts_and_that_of_roberta_its_positions(tmp_path):
    config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12)
    towers = {"text": ClipText(20, config, length=5), "image": Vit((4, 4), (2, 2), config=config, patch_bias=False)}
    module = Clip({**towers, "image": towers["image"].clone(embedded_norm=True)}, 6)
    pretrained.save(
        tmp_path / "clip", "clip", module, zeros(module), Both(NoTokenizer(UserError("none"), 3), Pictures(), {})
    )
    assert json.loads((tmp_path / "clip" / "config.json").read_text())["text_config"]["pad_token_id"] == 3
    module = Encoders({"text": Bert(20, config, length=9, padding=1)})
    pretrained.save(tmp_path / "roberta", "roberta", module, zeros(module), NoTokenizer(UserError("none"), 3))
    assert json.loads((tmp_path / "roberta" / "config.json").read_text())["pad_token_id"] == 1


def test_rates_of_dropout_that_a_config_omits_are_those_of_transformers():
    config = {"problem_type": None}
    for kind, architecture, rate in (
        ("distilbert", "DistilBertForSequenceClassification", 0.2),
        ("albert", "AlbertForSequenceClassification", 0.1),
        ("mobilenet_v2", "MobileNetV2ForImageClassification", 0.8),
        ("bert", "BertForSequenceClassification", 0.3),  # the encoder's
    ):
        encoder = MobileNetV2() if kind == "mobilenet_v2" else replaced(Bert(20), dropout=0.3)
        spec = pretrained.HEADS[kind][architecture]["logits"]
        module = Encoders({"input": encoder})
        assert heads.build(module, spec, config, 2, 8 if spec.hidden else None).dropout == rate
        if spec.rate is not None:
            assert heads.build(module, spec, {spec.dropout: 0.25}, 2, 8).dropout == 0.25


@pytest.mark.parametrize("kind", ["swin", "convnextv2", "mobilenet_v2"])
def test_models_of_gray_images_have_a_processor_of_gray_images(kind, tmp_path):
    family = FAMILIES[kind]
    pictures = family.processor(tmp_path, {"model_type": kind, "num_channels": 1})
    assert len(pictures.mean) == len(pictures.std) == 1


def test_half_a_window_replaces_the_window_of_modernbert():
    config = FAMILIES["modernbert"].describe("modernbert", small(ModernBert(20), window=6))
    built = FAMILIES["modernbert"].build(config | {"sliding_window": 2}, set(), None)
    assert built.encoders["text"].window == 4
