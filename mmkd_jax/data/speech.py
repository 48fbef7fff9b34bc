"""Speech synthesis with espeak-ng."""

import ctypes
import pathlib

import numpy as np
import scipy.signal
from jaxtyping import Float

SYNTHESIS_RATE, RATE = 22_050, 8_000


class Voice:
    """espeak-ng speech synthesizer through its C API; one instance per process."""

    _RETRIEVAL, _UTF8 = 2, 1
    _RATE, _PITCH, _RANGE = 1, 3, 4

    def __init__(self, folder: pathlib.Path):
        """folder: contains libespeak-ng.so and espeak-ng-data."""
        self._library = ctypes.CDLL(str(folder / "libespeak-ng.so"))
        rate = self._library.espeak_Initialize(self._RETRIEVAL, 0, str(folder / "espeak-ng-data").encode(), 0)
        if rate != SYNTHESIS_RATE:
            raise RuntimeError(f"espeak-ng returned a sample rate of {rate} Hz, expected {SYNTHESIS_RATE}")
        self._samples: list[np.ndarray] = []

        def hear(samples, count, events):
            if samples and count > 0:
                self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = kind(hear)  # keep a reference: the library stores only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, word: str, voice: str, rate: int, pitch: int, spread: int) -> Float[np.ndarray, " n"]:
        """Synthesize a word as an 8 kHz waveform in [−1, 1].

        Args:
            word: word to synthesize.
            voice: ACCENT+VARIANT, such as "en-us+m1".
            rate: words per minute.
            pitch: 0–100.
            spread: pitch range, 0–100.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((self._RATE, rate), (self._PITCH, pitch), (self._RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples.clear()
        data = word.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, self._UTF8, None, None)
        self._library.espeak_Synchronize()
        wave = np.concatenate(self._samples).astype(np.float64) / 32_768
        loud = np.flatnonzero(np.abs(wave) > 1e-3)
        wave = wave[loud[0] : loud[-1] + 1]  # trim silence, so that the word's position is well defined
        return scipy.signal.resample_poly(wave, RATE // 50, SYNTHESIS_RATE // 50)
