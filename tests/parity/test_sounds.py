"""Recordings prepared as transformers does, and padding that changes nothing."""

import numpy as np
import pytest
import torch
import transformers

from mmkd_jax import pretrained
from tests.parity.cases import answer, quiet, reference, saved
from tests.parity.every_case import CASES


def recordings():
    """A falling tone, noise and a click, of unlike lengths and levels."""
    time = np.arange(3_000) / 16_000
    draw = np.random.default_rng(0)
    tone = 0.3 * np.sin(2 * np.pi * time * (900 - 2_000 * time)) + 0.1
    return [tone.astype(np.float32), draw.normal(0, 0.02, 1_700).astype(np.float32), np.eye(1, 900, 400)[0]]


@pytest.mark.parametrize("normalize", [True, False])
def test_waveforms_are_those_of_transformers(normalize, tmp_path):
    theirs = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=True)
    with quiet():
        saved(CASES["wav2vec 2.0"], tmp_path)
    theirs.save_pretrained(tmp_path)
    ours = pretrained.load(tmp_path).processor
    expected = theirs(recordings(), sampling_rate=16_000, padding=True, return_tensors="np")
    found = ours(recordings(), 16_000)
    np.testing.assert_allclose(found["audio"], expected["input_values"], atol=2e-6)
    np.testing.assert_array_equal(found["audio.mask"], expected["attention_mask"])


@pytest.mark.parametrize("name", ["wav2vec 2.0", "hubert", "wav2vec 2.0, stable, padded", "data2vec, audio", "wavlm"])
def test_a_padded_row_is_the_recording_by_itself(name, tmp_path):
    case = CASES[name]
    model = saved(case, tmp_path)
    wave, lengths = case.batch["audio"], (90, 31, 60)
    mask = np.arange(wave.shape[1])[None] < np.array(lengths)[:, None]
    ours = answer(pretrained.load(tmp_path), {"audio": np.where(mask, wave, 7), "audio.mask": mask})
    for i, n in enumerate(lengths):
        alone = case._replace(batch={"audio": wave[i : i + 1, :n]}, inputs={"input_values": wave[i : i + 1, :n]})
        for key, x in reference(model, alone).items():
            t = x.shape[-2]
            y = ours[key][i : i + 1, ..., :t, :t] if key.startswith("attentions") else ours[key][i : i + 1, :t]
            np.testing.assert_allclose(y, x, atol=2e-5 * max(1, np.abs(x).max()), err_msg=f"{key} of row {i}")
        tokens = ours["tokens.audio"][i][ours["frames.audio"][i]]
        np.testing.assert_allclose(ours["features.audio"][i], tokens.mean(0), atol=1e-5)


def test_former_names_of_normalised_weights_are_known(tmp_path):
    saved(CASES["hubert"], tmp_path)
    before = pretrained.load(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = torch.load(_as_bin(path, tmp_path), weights_only=True)
    assert any(k.endswith("conv.weight_g") for k in tensors)
    path.unlink()
    again = pretrained.load(tmp_path)
    assert np.array_equal(
        again.variables["params"]["encoders_audio"]["positions"]["kernel"],
        before.variables["params"]["encoders_audio"]["positions"]["kernel"],
    )


def _as_bin(path, folder):
    from safetensors.torch import load_file

    renamed = {
        k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): x
        for k, x in load_file(path).items()
    }
    torch.save(renamed, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"
