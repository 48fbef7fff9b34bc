"""Resemblyzer's own code on its own weights: hidden states, windows, utterances."""

import sys
import tempfile
import types
from typing import Any

import numpy as np
import torch
from transformers import audio_utils

from mmkd_jax import pretrained
from mmkd_jax.data import sources
from mmkd_jax.pretrained.packages import RESEMBLYZER
from tests.parity.cases import answer


def melspectrogram(y, sr, n_fft, hop_length, n_mels):
    """librosa's function of that name as transformers has it: librosa itself is not needed."""
    filters = audio_utils.mel_filter_bank(n_fft // 2 + 1, n_mels, 0, sr / 2, sr, "slaney", "slaney")
    window = audio_utils.window_function(n_fft)
    return audio_utils.spectrogram(
        y, window, n_fft, hop_length, power=2.0, pad_mode="constant", mel_filters=filters, mel_floor=0.0
    )


def published() -> types.ModuleType:
    """The package, without librosa, and without voice activity detection, which nothing here asks for."""
    code = tempfile.mkdtemp()
    sources.wheel(*RESEMBLYZER).extractall(code)
    librosa: Any = types.ModuleType("librosa")
    detection = types.ModuleType("webrtcvad")
    librosa.feature = types.SimpleNamespace(melspectrogram=melspectrogram)
    sys.path.insert(0, code)
    sys.modules |= {"librosa": librosa, "webrtcvad": detection}
    try:
        import resemblyzer
    finally:
        sys.path.remove(code)
        del sys.modules["librosa"], sys.modules["webrtcvad"]
    return resemblyzer


def both(loaded: pretrained.Pretrained, recordings: list[np.ndarray]) -> tuple[dict[str, np.ndarray], ...]:
    """What we say and what they say of recordings at 16 kHz, of windows that are there."""
    package = published()
    model, batch = package.VoiceEncoder("cpu", verbose=False).eval(), loaded.processor(recordings, 16_000)
    mask, (n, t, _) = batch["audio.mask"], batch["audio"].shape
    ours = answer(loaded, batch)
    ours = {k: x[mask[:, ::160]] if k.startswith("windows") else x for k, x in ours.items()}
    ours = {k: x[mask] if k.startswith("hidden") else x for k, x in ours.items()}
    mels, theirs = torch.as_tensor(batch["audio"]).reshape(-1, 160, 40), {}
    with torch.no_grad():
        theirs["windows.audio"] = model(mels).numpy().reshape(n, t // 160, -1)[mask[:, ::160]]
        for depth in (1, 2, 3):
            lower = torch.nn.LSTM(40, 256, depth, batch_first=True)
            lower.load_state_dict({k: model.lstm.state_dict()[k] for k in lower.state_dict()})
            theirs[f"hidden.audio.{depth}"] = lower(mels)[0].numpy().reshape(n, t, -1)[mask]
        loud = [package.audio.normalize_volume(x, -30, increase_only=True) for x in recordings]
        theirs["features.audio"] = np.stack([model.embed_utterance(x) for x in loud])
    return ours, theirs
