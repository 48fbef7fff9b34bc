"""ELECTRA, ALBERT, MPNet, DeBERTa, ModernBERT, data2vec, WavLM: what is read, written and refused, without PyTorch."""

import json
from typing import Any

import jax
import pytest

from mmkd_jax import pretrained
from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Bert,
    Data2VecAudio,
    Deberta,
    Encoders,
    FactorizedBert,
    ModernBert,
    MPNet,
    TransformerConfig,
    WavLM,
)
from mmkd_jax.pretrained.attributes import replaced
from mmkd_jax.pretrained.loading import FAMILIES
from tests.small import equal

SIZES: dict[str, Any] = {"embed_dim": 8, "num_layers": 2, "num_heads": 2, "mlp_dim": 12}
WAVES: dict[str, Any] = {"convolutions": (6, 4), "kernels": (5, 3), "strides": (3, 2), "reach": 4, "groups": 2}


def small(encoder, **changes):
    text = not isinstance(encoder, Data2VecAudio | WavLM)
    own = SIZES | ({"length": 9} if text else WAVES)
    return Encoders({"text" if text else "audio": replaced(encoder, **own | changes)})


KINDS = {
    "electra": small(FactorizedBert(20), embedding=6),
    "albert": small(FactorizedBert(20), embedding=6, shared=True, pooler=True),
    "mpnet": small(MPNet(20), pooler=True),
    "deberta-v2": small(Deberta(20), buckets=4, kernel=3, shared_keys=False, terms=("p2c",)),
    "modernbert": small(ModernBert(20), every=2, window=6),
    "data2vec-text": Encoders({"text": Bert(20, TransformerConfig(**SIZES), length=9, padding=1)}),
    "data2vec-audio": small(Data2VecAudio()),
    "wavlm": small(WavLM(), pre_norm=True, buckets=8, bucket_reach=6),
}


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded(kind, tmp_path):
    module = KINDS[kind]
    variables = pretrained.initial(module, jax.random.key(1))
    pretrained.save(tmp_path, kind, module, variables)
    loaded = pretrained.load(tmp_path)
    assert loaded.module == module and loaded.kind == kind
    assert equal(loaded.variables, variables)


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_is_described_by_its_kind_alone(kind):
    config = json.loads(json.dumps(FAMILIES[kind].describe(kind, KINDS[kind])))
    names = {"pooler.dense.weight", "pooler.weight"} if any(e.pooler for e in poolers(KINDS[kind])) else set()
    assert FAMILIES[kind].build(config, names, None) == KINDS[kind]
    for other in KINDS.keys() - {kind}:
        with pytest.raises((UserError, KeyError, AttributeError)):
            FAMILIES[other].describe(other, KINDS[kind])


def poolers(module):
    return [e for e in module.encoders.values() if hasattr(e, "pooler")]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("electra", {"is_decoder": True}, "is_decoder=True; only False"),
        ("albert", {"num_hidden_groups": 2}, "num_hidden_groups=2; only 1"),
        ("albert", {"inner_group_num": 3}, "inner_group_num=3; only 1"),
        ("albert", {"num_hidden_layers": 10**6}, "num_hidden_layers=1000000; expected at most 256"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets=64; only 32"),
        ("mpnet", {"pad_token_id": 0}, "pad_token_id=0; only 1"),
        ("deberta-v2", {"relative_attention": False}, "relative_attention=False; only True"),
        ("deberta-v2", {"embedding_size": 4}, "embedding_size=4; only 8"),
        ("deberta-v2", {"attention_head_size": 2}, "attention_head_size=2; only 4"),
        ("deberta-v2", {"conv_groups": 2}, "conv_groups=2; only 1"),
        ("deberta-v2", {"conv_kernel_size": 4}, "conv_kernel_size=4; expected an odd number"),
        ("deberta-v2", {"pos_att_type": "p2p"}, "pos_att_type='p2p'; expected 'c2p', 'p2c'"),
        ("deberta-v2", {"norm_rel_ebd": "batch"}, "norm_rel_ebd='batch'; expected 'none' or 'layer_norm'"),
        ("deberta-v2", {"position_buckets": 1}, "position_buckets=1 and positions up to 512; expected at least 2"),
        ("modernbert", {"layer_types": ["sliding_attention"]}, "layer_types=.*; expected 2 of 'full_attention'"),
        ("modernbert", {"rope_scaling": {"factor": 2}}, "rope_scaling={'factor': 2}; only None"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "rope_type='yarn'; only 'default'",
        ),
        ("modernbert", {"num_attention_heads": 8}, "heads of 1 channels; expected an even number"),
        ("data2vec-text", {"add_cross_attention": True}, "add_cross_attention=True; only False"),
        ("data2vec-audio", {"add_adapter": True}, "add_adapter=True; only False"),
        ("wavlm", {"add_adapter": True}, "add_adapter=True; only False"),
        ("wavlm", {"feat_extract_norm": "batch"}, "feat_extract_norm='batch'; expected 'group' or 'layer'"),
        ("wavlm", {"num_buckets": 2}, "num_buckets=2 and max_bucket_distance=6; expected at least 4"),
    ],
)
def test_what_an_encoder_does_not_have_is_named(kind, fields, message):
    config = FAMILIES[kind].describe(kind, KINDS[kind])
    if "position_buckets" in fields:
        config["max_relative_positions"] = 512
    with pytest.raises(UserError, match=message):
        FAMILIES[kind].build(config | fields, set(), None)


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("electra", {"shared": True}, "shared=True"),
        ("electra", {"projected": False}, "projected=False"),
        ("albert", {"shared": False}, "shared=False"),
        ("mpnet", {"padding": 0}, "padding=0"),
        ("modernbert", {"dropout": 0.1}, "dropout=0.1"),
        ("data2vec-audio", {"norm": "channel"}, "norm='channel'"),
        ("wavlm", {"projected_norm": False}, "projected_norm=False"),
    ],
)
def test_what_a_kind_cannot_describe_is_named(kind, changed, message):
    ((modality, encoder),) = KINDS[kind].encoders.items()
    with pytest.raises(UserError, match=f"kind '{kind}' does not describe an encoder with {message}$"):
        FAMILIES[kind].describe(kind, Encoders({modality: replaced(encoder, **changed)}))


@pytest.mark.full
def test_an_albert_has_more_layers_than_tensors_for_them(tmp_path):
    module = small(FactorizedBert(20), embedding=6, shared=True, num_layers=9)
    pretrained.save(tmp_path, "albert", module, pretrained.initial(module))
    assert pretrained.load(tmp_path).module.encoders["text"].config.num_layers == 9
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 257}))
    with pytest.raises(UserError, match="num_hidden_layers=257; expected at most 256"):
        pretrained.load(tmp_path)


@pytest.mark.full
def test_a_positional_convolution_is_not_free(tmp_path):
    module = KINDS["data2vec-audio"]
    pretrained.save(tmp_path, "data2vec-audio", module, pretrained.initial(module))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_conv_pos_embeddings": 10**8}))
    with pytest.raises(UserError, match="position_layers=100000000, which needs 200000000 tensors"):
        pretrained.load(tmp_path)
