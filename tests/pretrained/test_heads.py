"""Heads of fine-tuned encoders without PyTorch: what is read, and what a folder says about what was saved."""

import json

import jax
import pytest
from safetensors.numpy import load_file, save_file

from mmkd_jax import pretrained
from mmkd_jax.data import train_tokenizer
from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, Deberta, Encoders, FactorizedBert, ModernBert, TransformerConfig
from mmkd_jax.models.heads import TaskHead
from mmkd_jax.pretrained.attributes import replaced
from tests.small import equal

SIZES = {"embed_dim": 8, "num_layers": 1, "num_heads": 2, "mlp_dim": 12, "length": 9}


def small(encoder, head=None, **changes):
    return Encoders({"text": replaced(encoder, **SIZES | changes)}, {"logits": head} if head else {})


def test_the_first_names_of_a_layer_norm_are_known_in_heads(tmp_path):
    """bert-base-uncased is published as a masked language model with these names."""
    config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12)
    head = TaskHead(20, read="tokens", width=8, activation="gelu", norm="hidden", tied=True)
    module = Encoders({"text": Bert(20, config, length=9)}, {"logits": head})
    pretrained.save(tmp_path, "bert", module, pretrained.initial(module, jax.random.key(1)))
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
    loaded = pretrained.Pretrained(module, pretrained.initial(module), None, "modernbert")
    tuned = pretrained.with_head(loaded, ("no", "yes"))
    pretrained.save(tmp_path, "modernbert", tuned.module, pretrained.initial(tuned.module))
    config = json.loads((tmp_path / "config.json").read_text())
    names = load_file(tmp_path / "model.safetensors").keys()
    for layer, key in (("norm", "norm_bias"), ("dense", "classifier_bias")):  # which transformers follows
        assert (f"head.{layer}.bias" in names) == config[key] == norm_bias
    other = tuned.module.clone(heads={"logits": tuned.module.heads["logits"].clone(bias=not norm_bias)})
    with pytest.raises(UserError, match=f"bias={not norm_bias} on an encoder with norm_bias={norm_bias}"):
        pretrained.save(tmp_path, "modernbert", other, pretrained.initial(other))
