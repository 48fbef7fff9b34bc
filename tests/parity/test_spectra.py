"""Mel spectra are those of transformers' own processors, and of librosa."""

import warnings

import numpy as np
import pytest
import transformers

from mmkd_jax.pretrained import ast, whisper
from tests.parity import real

RATE = 16_000


@pytest.mark.parametrize(("mels", "length"), [(80, 1500), (128, 350)])
def test_spectra_of_whisper(mels, length, tmp_path):
    theirs = transformers.WhisperFeatureExtractor(mels, chunk_length=length // 50)
    theirs.save_pretrained(tmp_path)
    ours = whisper.processor(tmp_path, {"num_mel_bins": mels, "max_source_positions": length})
    found = ours(real.recordings(), RATE)["audio"].transpose(0, 2, 1)
    samples = length * 320
    filled = [np.pad(x, (0, samples - len(x))) for x in real.recordings()]
    np.testing.assert_allclose(found, theirs._np_extract_fbank_features(filled, "cpu"), atol=1e-5)
    single = theirs(real.recordings(), sampling_rate=RATE, return_tensors="np")["input_features"]
    np.testing.assert_allclose(found, single, atol=1e-4)  # PyTorch's, in single precision


@pytest.mark.parametrize("said", [{}, {"num_mel_bins": 40, "max_length": 200, "mean": -3.0, "std": 2.0}])
def test_spectra_of_ast(said, tmp_path):
    theirs = transformers.ASTFeatureExtractor(**said)  # in NumPy: torchaudio is not installed
    theirs.save_pretrained(tmp_path)
    ours = ast.processor(tmp_path, said)
    with warnings.catch_warnings(action="ignore" if said else "error", category=UserWarning):  # cut to 2 s
        found = ours(real.recordings(), RATE)["audio"]
    expected = theirs(real.recordings(), sampling_rate=RATE, return_tensors="np")["input_values"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    plain = transformers.ASTFeatureExtractor(**said, do_normalize=False)
    plain.save_pretrained(tmp_path)
    found = ast.processor(tmp_path, said)(real.recordings()[1:2], RATE)["audio"]
    expected = plain(real.recordings()[1:2], sampling_rate=RATE, return_tensors="np")["input_values"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
