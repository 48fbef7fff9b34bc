"""The speaker encoder without PyTorch: mel spectra, windows of recordings of any length, and what is refused."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.data import voice_windows as voice
from mmkd_jax.errors import UserError
from mmkd_jax.models import Encoders, VoiceLSTM
from tests.small import equal

RATE = 16_000
SMALL = Encoders({"audio": VoiceLSTM(width=8, layers=2, embedding=6)})

# librosa 0.11.0: feature.melspectrogram(y=wave, sr=16000, n_fft=400, hop_length=160, n_mels=40).T[::10, ::8] of CHIRP,
# as Resemblyzer 0.1.4 calls it
TIME = np.arange(8_000)
CHIRP = (0.1 * np.sin(TIME**2 / 40_000) + 0.02 * np.cos(TIME * 1.7)).astype(np.float32)
MEL = np.array(
    [
        [1.3534597e-02, 2.6617327e-06, 3.0022334e-06, 5.5752539e-06, 7.5077927e-03],
        [1.6420226e-03, 1.2400525e-08, 4.4086158e-11, 9.4497522e-13, 1.6348427e-02],
        [2.4169239e-07, 2.5331594e-06, 7.1594713e-10, 5.4510675e-12, 1.6348427e-02],
        [4.3702642e-08, 6.7336565e-01, 5.9376908e-09, 2.1086756e-11, 1.6348427e-02],
        [8.6009706e-09, 6.4112589e-04, 8.0503000e-08, 6.2243558e-11, 1.6348425e-02],
        [9.8329678e-04, 3.7838586e-03, 5.1936992e-03, 1.9579945e-04, 7.1418327e-03],
    ]
)


def noise(seconds):
    return np.random.default_rng(0).normal(size=int(RATE * seconds)).astype(np.float32) * 0.2


def run(loaded, batch):
    batch = batch | {"example_id": np.arange(len(batch["audio"]), dtype=np.int32)}
    model, ctx = linen(loaded.module), StepContext(0, jax.random.key(0), train=False)
    return jax.jit(lambda v: model.apply(v, batch, ctx, {})[0])(loaded.variables)


@pytest.fixture
def loaded(tmp_path):
    pretrained.save(tmp_path, "voice-encoder", SMALL, pretrained.initial(SMALL, jax.random.key(3)))
    return pretrained.load(tmp_path)


def test_mel_spectra_are_those_of_librosa():
    found = voice.mel(CHIRP.astype(np.float64))
    assert found.shape == (51, 40)
    np.testing.assert_allclose(found[::10, ::8], MEL, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose([found.max(), found.sum()], [1.5910367, 98.529045], rtol=1e-6)


@pytest.mark.parametrize(("seconds", "windows"), [(0.01, 1), (1.9, 1), (2.0, 2), (2.6, 2), (2.8, 3), (10, 12)])
def test_windows_begin_every_770_ms_as_long_as_three_quarters_of_the_last_are_filled(seconds, windows):
    made = voice.Windows()([noise(seconds)], RATE)
    assert made["audio"].shape == (1, windows * 160, 40) and made["audio.mask"].all()
    whole = voice.mel(np.pad(noise(seconds).astype(np.float64), (0, 2 * RATE)))
    for i in range(windows):
        np.testing.assert_allclose(made["audio"][0, i * 160 :][:100], whole[i * 77 :][:100], rtol=1e-4)


def test_quiet_recordings_are_made_louder_and_silence_stays():
    read = voice.Windows()
    loud, quiet, silence = (read([noise(1) * x], RATE)["audio"] for x in (1, 1e-3, 0))
    np.testing.assert_allclose(quiet, loud * 10**-3 / np.mean(noise(1) ** 2), rtol=1e-3)
    assert not silence.any()


@pytest.mark.full
def test_an_utterance_is_the_mean_of_its_windows_whatever_stands_beside_it(loaded):
    both = run(loaded, loaded.processor([noise(3.4), noise(1)], RATE))
    assert both["hidden.audio.0"].shape == (2, 480, 40) and both["hidden.audio.2"].shape == (2, 480, 8)
    alone = run(loaded, loaded.processor([noise(1)], RATE))
    np.testing.assert_allclose(both["features.audio"][1], alone["features.audio"][0], atol=1e-6)
    mean = both["windows.audio"][0].mean(0)
    np.testing.assert_allclose(both["features.audio"][0], mean / np.linalg.norm(mean), atol=1e-6)
    assert np.abs(np.diff(both["windows.audio"][0], axis=0)).max() > 1e-3


def test_fewer_frames_are_one_window(loaded):
    made = loaded.processor([noise(1)], RATE)
    whole = run(loaded, made | {"audio.mask": np.arange(160)[None] < 90})
    short = run(loaded, {"audio": made["audio"][:, :90]})
    np.testing.assert_allclose(whole["features.audio"], short["features.audio"], atol=1e-6)


def test_what_is_saved_is_loaded_and_what_it_was_trained_with_is_left_out(loaded, tmp_path):
    assert loaded.module == SMALL and loaded.processor == voice.Windows()
    assert equal(loaded.variables, pretrained.initial(SMALL, jax.random.key(3)))
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors["lstm.weight_hh_l1"].shape == (32, 8)
    held = {"similarity_weight": np.ones(1, np.float32), "similarity_bias": np.ones(1, np.float32)}
    save_file(tensors | held, tmp_path / "model.safetensors")
    assert equal(pretrained.load(tmp_path).variables, loaded.variables)
    save_file(tensors | {"lstm.bias_hh_l2": np.ones(32)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="unexpected: lstm.bias_hh_l2"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 160, 39), r"audio: shape \[1, 160, 39\]; expected \[b, frames, 40 mel bands\]"),
        ((1, 160), r"audio: shape \[1, 160\]; expected"),
        ((1, 200, 40), "audio: 200 frames are not a multiple of the window of 160"),
    ],
)
def test_spectra_that_do_not_fit_are_refused(loaded, shape, said):
    with pytest.raises(UserError, match=said):
        run(loaded, {"audio": np.zeros(shape, np.float32)})


def test_recordings_of_another_rate_and_empty_ones_are_refused(loaded):
    with pytest.raises(UserError, match="audio 0: rate is 8000 Hz; the model expects 16000"):
        loaded.processor([noise(1)], 8_000)
    with pytest.raises(UserError, match="audio 1: 0 samples are too few"):
        loaded.processor([noise(1), noise(0)], RATE)
