"""Pretrained encoders of mel spectra without PyTorch: recordings of any length, and what is refused."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import Ast, Encoders, TransformerConfig, Whisper
from tests.small import equal

RATE = 16_000
CONFIG = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12)
MODELS: dict[str, Any] = {"whisper": Whisper(12, 50, dataclasses.replace(CONFIG, eps=1e-5))}
MODELS["audio-spectrogram-transformer"] = Ast((12, 100), (4, 4), (3, 4), config=CONFIG)
SAID: dict[str, Any] = {"whisper": {"feature_size": 12, "chunk_length": 1, "sampling_rate": RATE}}
SAID["audio-spectrogram-transformer"] = {"num_mel_bins": 12, "max_length": 100, "mean": -3.0, "std": 2.0}


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    """As somebody published it."""
    module = Encoders({"audio": MODELS[request.param]})
    pretrained.save(tmp_path, request.param, module, pretrained.initial(module, jax.random.key(3)))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SAID[request.param]))
    return tmp_path


def tones(*seconds):
    return [np.sin(2 * np.pi * 440 * np.arange(int(RATE * s)) / RATE).astype(np.float32) for s in seconds]


def run(loaded, batch):
    batch = batch | {"example_id": np.arange(len(batch["audio"]), dtype=np.int32)}
    model, ctx = linen(loaded.module), StepContext(0, jax.random.key(0), train=False)
    return jax.jit(lambda v: model.apply(v, batch, ctx, {})[0])(loaded.variables)


@pytest.mark.full
def test_what_is_saved_is_loaded_with_its_processor(folder, tmp_path):
    loaded = pretrained.load(folder)
    module = loaded.module.encoders["audio"]
    assert module == MODELS[loaded.kind]
    pretrained.save(tmp_path / "again", loaded.kind, loaded.module, loaded.variables, loaded.processor)
    again = pretrained.load(tmp_path / "again")
    assert equal(again.variables, loaded.variables) and again.processor == loaded.processor
    made = loaded.processor(tones(0.4, 1), RATE)
    shapes = {k: x.shape[1:] for k, x in module.sample("audio").items()}
    assert {k: x.shape[1:] for k, x in made.items()} == shapes and made["audio"].dtype == np.float32
    out = run(loaded, made)
    assert out["features.audio"].shape == (2, 8) and np.isfinite(out["features.audio"]).all()


def test_int16_and_another_rate_are_the_same_recording(folder):
    read = pretrained.load(folder).processor
    (tone,) = tones(0.5)
    plain = read([tone], RATE)["audio"]
    whole = (tone * 32_767).astype(np.int16)
    np.testing.assert_array_equal(read([whole], RATE)["audio"], read([whole / np.float32(32_768)], RATE)["audio"])
    with pytest.raises(UserError, match="audio 0: rate is 8000 Hz; the model expects 16000"):
        read([tone[::2]], 8_000)
    again = read([tone[::2]], 8_000, resample=True)["audio"]
    assert again.shape == plain.shape and np.corrcoef(again.ravel(), plain.ravel())[0, 1] > 0.95


def test_longer_recordings_are_cut_with_a_warning_or_refused(folder):
    read = pretrained.load(folder).processor
    with pytest.warns(
        UserWarning, match="audio: 1 of 2 recordings are longer than 1.* s, first in row 1: they are truncated"
    ):
        made = read(tones(0.5, 1.5), RATE)
    assert len(made["audio"]) == 2
    with pytest.raises(UserError, match="1 of 2 recordings are longer than 1"):
        read(tones(0.5, 1.5), RATE, cut=False)
    with pytest.raises(UserError, match="audio 1: 0 samples are too few"):
        read(tones(0.5, 0), RATE)


@pytest.mark.parametrize("shape", [(2, 100, 13), (2, 90, 12), (2, 100)])
def test_spectra_of_another_size_are_refused(folder, shape):
    loaded = pretrained.load(folder)
    with pytest.raises(UserError, match=r"audio: shape \[2, .*\]; expected \[b, 1"):
        run(loaded, {"audio": np.zeros(shape, np.float32)})


def test_a_processor_that_does_not_fit_the_encoder_is_refused(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling_rate": 8_000}))
    with pytest.raises(UserError, match="preprocessor_config.json has sampling_rate=8000, expected 16000"):
        pretrained.load(folder)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_whispers_decoder_is_left_out_and_nothing_else(prefix, tmp_path):
    module = Encoders({"audio": MODELS["whisper"]})
    variables = pretrained.initial(module)
    pretrained.save(tmp_path, "whisper", module, variables)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not [n for n in tensors if n.endswith("k_proj.bias")]
    more = {"decoder.layers.0.fc1.weight": np.zeros((2, 2), np.float32), "decoder.embed_tokens.weight": np.zeros(3)}
    save_file({prefix + n: x for n, x in (tensors | more).items()}, tmp_path / "model.safetensors")
    assert equal(pretrained.load(tmp_path).variables, variables)
    save_file(tensors | {"encoder.layers.0.self_attn.k_proj.bias": np.zeros(8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="unexpected: encoder.layers.0.self_attn.k_proj.bias"):
        pretrained.load(tmp_path)
