"""Audio encoders on waveforms: what is read, written and refused, without PyTorch."""

import json
from typing import Any

import jax
import numpy as np
import pytest

from mmkd_jax import pretrained
from mmkd_jax.core.model import linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import Encoders, TransformerConfig, Wav2Vec2
from tests.small import equal

SMALL: dict[str, Any] = {"convolutions": (6, 4), "kernels": (5, 3), "strides": (3, 2), "reach": 4, "groups": 2}
SMALL |= {"config": TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12, eps=1e-5)}


def written(folder, kind="wav2vec2", **fields):
    module = Encoders({"audio": Wav2Vec2(**SMALL | fields)})
    pretrained.save(folder, kind, module, pretrained.initial(module))
    return module


def changed(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.full
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("norm", ["channel", "layer"])
def test_what_is_saved_is_loaded(kind, norm, tmp_path):
    module = written(tmp_path, kind, norm=norm, pre_norm=norm == "layer")
    loaded = pretrained.load(tmp_path)
    assert loaded.module == module and loaded.kind == kind
    assert equal(loaded.variables, pretrained.initial(module))


@pytest.mark.full
def test_what_the_encoder_does_not_have_is_named(tmp_path):
    written(tmp_path)
    for field, value in {"add_adapter": True, "adapter_attn_dim": 16, "conv_pos_batch_norm": True}.items():
        changed(tmp_path, **{field: value})
        with pytest.raises(UserError, match=f"config.json has {field}={value}; only"):
            pretrained.load(tmp_path)
        changed(tmp_path, add_adapter=False, adapter_attn_dim=None, conv_pos_batch_norm=False)
    changed(tmp_path, feat_extract_norm="batch")
    with pytest.raises(UserError, match="feat_extract_norm='batch'; expected 'group' or 'layer'"):
        pretrained.load(tmp_path)
    with pytest.raises(UserError, match="norm is 'group'; expected 'channel' or 'layer'"):
        written(tmp_path, norm="group")
    with pytest.raises(UserError, match="kind 'wav2vec2' does not describe an encoder with projected_norm=False"):
        written(tmp_path, projected_norm=False)


def test_recordings_are_cut_with_a_warning_refused_or_padded(tmp_path):
    written(tmp_path)
    read = pretrained.load(tmp_path).processor
    given = [np.sin(np.arange(40.0)), np.sin(np.arange(25.0))]
    found = read(given, 16_000, length=50)
    assert found["audio"].shape == (2, 50) and found["audio.mask"].sum(1).tolist() == [40, 25]
    with pytest.warns(
        UserWarning, match="1 of 2 recordings are longer than 0.001875 s, first in row 0: they are truncated"
    ):
        assert read(given, 16_000, length=30)["audio.mask"].sum(1).tolist() == [30, 25]
    with pytest.raises(UserError, match="1 of 2 recordings are longer than 0.001875 s"):
        read(given, 16_000, length=30, cut=False)
    with pytest.raises(UserError, match="audio 0: rate is 8000 Hz; the model expects 16000"):
        read(given, 8_000)
    assert read(given, 8_000, resample=True)["audio"].shape == (2, 80)
    nested = {"feature_extractor": {"do_normalize": False, "sampling_rate": 8_000}, "tokenizer": {}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))  # as transformers saves several parts
    kept: Any = pretrained.load(tmp_path).processor
    assert (kept.rate, kept.normalize, list(kept.files)) == (8_000, False, ["preprocessor_config.json"])
    (tmp_path / "preprocessor_config.json").write_text('{"padding_value": 1.0}')
    with pytest.raises(UserError, match="has padding_value=1.0, expected 0.0"):
        pretrained.load(tmp_path)


@pytest.mark.full
def test_waveforms_that_the_model_cannot_take_are_named():
    model = linen(Encoders({"audio": Wav2Vec2(**SMALL)}))
    rows = {"example_id": np.zeros(1, np.int32)}
    for wave, said in {
        (1, 10): r"shape \[1, 10\]; expected \[b, n\] with n ≥ 11",
        (1, 20, 2): r"shape \[1, 20, 2\]",
    }.items():
        with pytest.raises(UserError, match=said):
            model.init(jax.random.key(0), rows | {"audio": np.zeros(wave, np.float32)})
    with pytest.raises(UserError, match="waveforms of type int16"):
        model.init(jax.random.key(0), rows | {"audio": np.zeros((1, 20), np.int16)})
    uneven = linen(Encoders({"audio": Wav2Vec2(**SMALL | {"groups": 3})}))
    with pytest.raises(UserError, match="3 groups of the positional convolution do not divide an embed_dim of 8"):
        uneven.init(jax.random.key(0), rows | {"audio": np.zeros((1, 20), np.float32)})
