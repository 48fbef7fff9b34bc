"""WAV files, made here: a ramp that uses the whole range."""

import io
import struct

import numpy as np
import scipy.io.wavfile

from mmkd_jax.data.sounds import waveforms
from tests.readers.case import Case
from tests.readers.pictures import written

RATE, N = 16_000, 400
RAMP = np.linspace(-1, 1, N, endpoint=False)
GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name, data, size=None):
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def header(encoding=1, channels=1, rate=RATE, bits=16, a_second=None, frame=None, extra=b""):
    frame = channels * bits // 8 if frame is None else frame
    a_second = rate * frame if a_second is None else a_second
    return struct.pack("<HHIIHH", encoding, channels, rate, a_second & 0xFFFFFFFF, frame, bits) + extra


def wav(samples, *, before=b"", after=b"", size=None, **fields):
    """A WAV file by hand."""
    content = b"WAVE" + chunk(b"fmt ", header(**fields)) + before + chunk(b"data", samples, size) + after
    return b"RIFF" + struct.pack("<I", len(content)) + content


def pcm(bits, x=RAMP):
    """Samples of a number of bits, and their values."""
    whole = np.round(x * 2 ** (bits - 1)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int64)
    values = (whole / 2 ** (bits - 1)).astype(np.float32)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes(), values
    raw = whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : bits // 8]
    return raw.tobytes(), values


def stereo():
    left, right = pcm(16)[1], pcm(16, -RAMP / 2)[1]
    both = np.stack([left, right], 1)
    return (both * 2**15).astype("<i2").tobytes(), both


def extensible(encoding, bits, valid=None):
    """The additional fields of an extensible header."""
    return struct.pack("<HHIH", 22, valid or bits, 0, encoding) + GUID


def of_scipy(x):
    file = io.BytesIO()
    scipy.io.wavfile.write(file, RATE, x)
    return file.getvalue()


def read(path, **options):
    return waveforms([path], RATE, **options)[0]


BYTES, VALUES = pcm(16)
STEREO, BOTH = stereo()
FLOATS = RAMP.astype(np.float32)
CASES = [
    *(Case("WAV", f"{b}-bit PCM", written(wav(pcm(b)[0], bits=b)), pcm(b)[1]) for b in (8, 16, 24, 32)),
    *(
        Case(
            "WAV",
            f"{b}-bit PCM, extensible",
            written(wav(pcm(b)[0], bits=b, encoding=0xFFFE, extra=extensible(1, b))),
            pcm(b)[1],
        )
        for b in (16, 24)
    ),
    Case(
        "WAV",
        "24 valid bits of 32",
        written(wav(pcm(32)[0], bits=32, encoding=0xFFFE, extra=extensible(1, 32, 24))),
        pcm(32)[1],
    ),
    Case("WAV", "32-bit floats", written(of_scipy(FLOATS)), FLOATS),
    Case("WAV", "64-bit floats", written(of_scipy(RAMP)), RAMP.astype(np.float32)),
    Case(
        "WAV",
        "odd length, with other chunks",
        written(wav(pcm(8)[0][:-1], bits=8, before=chunk(b"LIST", b"INFO!"), after=chunk(b"id3 ", b"abc"))),
        pcm(8)[1][:-1],
    ),
    Case("WAV", "something appended", written(wav(BYTES) + b"TAG" + bytes(125)), VALUES),
    Case(
        "WAV",
        "two channels",
        written(wav(STEREO, channels=2)),
        r"shape \[400, 2\]; expected one channel.*'mean'",
        "refused",
    ),
    Case(
        "WAV",
        "two channels, channels='mean'",
        written(wav(STEREO, channels=2)),
        BOTH.mean(1),
        "their mean",
        {"channels": "mean"},
    ),
    Case(
        "WAV", "two channels, channels=1", written(wav(STEREO, channels=2)), BOTH[:, 1], "the second", {"channels": 1}
    ),
    Case(
        "WAV",
        "two channels, channels=2",
        written(wav(STEREO, channels=2)),
        "channels=2; expected 'mean', or 0 … 1",
        "refused",
        {"channels": 2},
    ),
    Case(
        "WAV", "another rate", written(wav(BYTES, rate=8_000)), "rate is 8000 Hz; the model expects 16000 Hz", "refused"
    ),
    Case("WAV", "a rate of 0", written(wav(BYTES, rate=0)), "sample rate of 0 Hz", "refused"),
    Case(
        "WAV", "a rate of 2 GHz", written(wav(pcm(8)[0], bits=8, rate=2**31)), "sample rate of 2147483648 Hz", "refused"
    ),
    Case(
        "WAV",
        "cut off",
        written(wav(BYTES)[:-200]),
        "is cut off, or .* 800 bytes of samples, it has 600: fetch it again",
        "refused",
    ),
    Case("WAV", "cut off in the header", written(wav(BYTES)[:30]), "is damaged or cut off", "refused"),
    Case(
        "WAV",
        "written to a pipe (size 2³² − 1)",
        written(wav(BYTES, size=2**32 - 1)),
        "was written to a pipe",
        "refused",
    ),
    Case(
        "WAV",
        "a recording that did not finish (sizes of 0)",
        written(wav(BYTES, size=0)),
        "recording did not finish .* announces 0 bytes of samples, it has 800",
        "refused",
    ),
    Case(
        "WAV",
        "half of the samples announced",
        written(wav(BYTES[:400], after=BYTES[400:])),
        "announces 400 bytes",
        "refused",
    ),
    Case(
        "WAV",
        "half of the samples announced, then silence",
        written(wav(BYTES[:400], after=bytes(400))),
        "announces 400 bytes of samples, it has 800",
        "refused",
    ),
    Case("WAV", "no samples", written(wav(b"")), "has no samples", "refused"),
    Case(
        "WAV",
        "a bit of the rate flipped",
        written(wav(BYTES, rate=16_000 ^ 64, a_second=32_000)),
        "contradicts itself",
        "refused",
    ),
    Case(
        "WAV", "a wrong number of channels", written(wav(BYTES, channels=3, frame=2)), "contradicts itself", "refused"
    ),
    Case("WAV", "no channels", written(wav(BYTES, channels=0)), "has 0 channels", "refused"),
    Case(
        "WAV",
        "half a frame at the end",
        written(wav(BYTES[:-1])),
        "bytes of samples, which 1 × 2 bytes do not divide",
        "refused",
    ),
    Case("WAV", "no samples chunk", written(wav(b"")[:-8]), "has no chunk 'data'", "refused"),
    Case(
        "WAV",
        "two samples chunks",
        written(wav(BYTES, after=chunk(b"data", BYTES))),
        "has two chunks 'data'",
        "refused",
    ),
    Case(
        "WAV",
        "NaN",
        written(of_scipy(np.where(RAMP > 0.5, np.nan, FLOATS).astype(np.float32))),
        "contains non-finite samples",
        "refused",
    ),
    Case(
        "WAV",
        "floats of the range of 16 bits",
        written(of_scipy(FLOATS * 32_768)),
        "samples up to 32768; expected",
        "refused",
    ),
    Case("WAV", "mu-law", written(wav(BYTES, encoding=7, bits=8)), "has mu-law with 8 bits; expected PCM", "refused"),
    Case(
        "WAV", "ADPCM", written(wav(BYTES, encoding=17, bits=4)), "has IMA ADPCM with 4 bits; expected PCM", "refused"
    ),
    Case("WAV", "12-bit PCM", written(wav(BYTES, bits=12, frame=2)), "has PCM with 12 bits", "refused"),
    Case("other", "FLAC", written(b"fLaC" + bytes(99)), "is FLAC; expected a .wav file", "refused"),
    Case("other", "MP3", written(b"ID3" + bytes(99)), "is MP3; expected a .wav file", "refused"),
    Case("other", "WAV beyond 4 GiB (RF64)", written(b"RF64" + wav(BYTES)[4:]), "is WAV beyond 4 GiB", "refused"),
    Case("other", "big-endian WAV (RIFX)", written(b"RIFX" + wav(BYTES)[4:]), "is big-endian WAV", "refused"),
    Case("other", "a web page named .wav", written(b"<html><title>404</title></html>"), "is a web page", "refused"),
    Case("other", "an empty file", written(b""), "is empty; expected a .wav file", "refused"),
]
