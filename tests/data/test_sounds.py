"""Recordings as models take them: what is read, what is resampled, what is refused."""

import numpy as np
import pytest
import scipy.io.wavfile

from mmkd_jax.data.sounds import waveforms
from mmkd_jax.errors import UserError

RATE = 16_000


def test_arrays_and_files_are_one(tmp_path):
    samples = (np.sin(np.arange(400) / 5) * 20_000).astype(np.int16)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, samples)
    told = [samples, samples.astype(np.float32) / 32_768, tmp_path / "a.wav", str(tmp_path / "a.wav")]
    for x in waveforms(told, RATE, RATE):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, told[1])


def test_a_tone_keeps_its_pitch_when_resampled():
    for rate in (8_000, 22_050, 44_100):
        tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        (x,) = waveforms([tone], RATE, rate, resample=True)
        assert x.shape == (RATE,)
        assert np.abs(np.fft.rfft(x)).argmax() == 440
        inside = slice(200, -200)  # the filter rings at the ends
        np.testing.assert_allclose(x[inside], np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)[inside], atol=0.01)


@pytest.mark.parametrize(
    ("recordings", "rate", "said"),
    [
        ([np.zeros(4)], 8_000, "audio 0: rate is 8000 Hz; the model expects 16000 Hz: pass resample=True"),
        ([np.zeros(4)], None, "audio 0: sample rate missing: pass it, such as rate=16000"),
        ([np.zeros(4), np.zeros((4, 2))], RATE, r"audio 1: shape \[4, 2\]; expected one channel"),
        ([np.zeros(4, np.int32)], RATE, "audio 0: samples of type int32; expected floats"),
        ([np.array([0.0, np.nan])], RATE, "audio 0: contains non-finite samples"),
        (np.zeros(4), RATE, "expected a sequence of recordings, got a single one"),
        ("speech.wav", RATE, "expected a sequence of recordings, got a single one"),
        (["speech.wav"], RATE, "audio 0: there is no file speech.wav"),
        ([__file__], RATE, "audio 0, .*test_sounds.py starts with .*expected a .wav file"),
    ],
)
def test_what_is_no_such_recording_is_named(recordings, rate, said):
    with pytest.raises(UserError, match=said):
        waveforms(recordings, RATE, rate)
