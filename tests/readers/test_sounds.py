"""WAV files of every encoding: samples in −1 … 1, or refused in one line."""

import os

import numpy as np
import pytest

from mmkd_jax.data.sounds import waveforms
from mmkd_jax.errors import UserError
from tests.readers.sounds import BYTES, CASES, RATE, VALUES, read, wav


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_wav_file(case, tmp_path):
    path = tmp_path / "a file"
    case.make(path)
    if isinstance(case.expected, str):
        with pytest.raises(UserError, match=case.expected) as error:
            read(path, **(case.options or {}))
        assert str(error.value).startswith(f"audio 0, {path}") and "\n" not in str(error.value)
    else:
        found = read(path, **(case.options or {}))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, case.expected)


def test_no_recording_is_read_in_part(tmp_path):
    """A file is cut off anywhere: refused, never shorter."""
    data, path = wav(BYTES), tmp_path / "cut"
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        with pytest.raises(UserError):
            read(path)


def test_a_lying_rate_asks_for_no_memory(tmp_path):
    """Resampling from 15,999 Hz to 16 kHz has a filter of 320,000 taps; from 2³² − 1 Hz it would have 86 billion."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(BYTES, rate=15_999))
    assert read(path, resample=True).shape == (401,)
    for rate in (3_999, 768_001):
        path.write_bytes(wav(BYTES, rate=rate))
        with pytest.raises(UserError, match=f"sample rate of {rate} Hz; expected 4000 … 768000"):
            read(path, resample=True)
        with pytest.raises(UserError, match=f"rate={rate}; expected a whole number of Hz"):
            waveforms([VALUES], RATE, rate, resample=True)


def test_arrays_with_channels():
    both = np.stack([VALUES, -VALUES / 2], 1)
    np.testing.assert_array_equal(waveforms([both], RATE, RATE, channels="mean")[0], both.mean(1))
    whole = (both * 32_768).astype(np.int16)
    expected = (whole / 32_768).mean(1).astype(np.float32)
    np.testing.assert_array_equal(waveforms([whole], RATE, RATE, channels="mean")[0], expected)
    with pytest.raises(UserError, match=r"shape \[2, 400\]; expected \[n, c\], with fewer channels than samples"):
        waveforms([both.T], RATE, RATE, channels="mean")
    with pytest.raises(UserError, match="samples of type int32"):
        waveforms([whole.astype(np.int32)], RATE, RATE, channels="mean")


def test_no_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="audio 0: .*pipe is not a regular file"):
        read(tmp_path / "pipe")
