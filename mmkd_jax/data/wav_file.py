"""WAV files as floats: every PCM and float format, with headers compared with the content.

scipy and libsndfile return fewer samples of a file that is cut off.
"""

import struct

import numpy as np
from jaxtyping import Float

from mmkd_jax.errors import UserError
from mmkd_jax.looks_like import looks_like, remedy

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {2: "Microsoft ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM", 85: "MP3", 255: "AAC"}
RATES = 4_000, 768_000
"""Smallest and largest sample rate, in Hz."""
_GUID = bytes.fromhex("000000001000800000aa00389b71")  # after the format, in an extensible header
_MAX_CHANNELS = 64


def decoded(data: bytes) -> tuple[int, Float[np.ndarray, "n c"]]:
    """Decode a WAV file: PCM with 8, 16, 24 or 32 bits, or floats with 32 or 64.

    Formula: x / 2^(bits − 1) for integers; 8-bit samples are unsigned, with 128 as 0

    Args:
        data: content of the file.

    Returns:
        Sample rate in Hz, and samples in −1 … 1 with one column per channel, float32 (of 64-bit floats, float64).

    Raises:
        UserError: the file is no WAV file, is cut off, has another encoding, or its header contradicts itself; the
            message lacks the path.

    Example:
        >>> import io, scipy.io.wavfile
        >>> file = io.BytesIO()
        >>> scipy.io.wavfile.write(file, 8_000, np.int16([0, -32_768, 16_384]))
        >>> rate, samples = decoded(file.getvalue())
        >>> rate, samples[:, 0].tolist()
        (8000, [0.0, -1.0, 0.5])
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise UserError(f"{looks_like(data)}; expected a .wav file: {remedy(data, 'convert it, or pass arrays')}")
    header, samples = _chunks(data)
    encoding, rate, channels, size = _format(header)
    if len(samples) % (channels * size):
        raise UserError(f"has {len(samples)} bytes of samples, which {channels} × {size} bytes do not divide")
    if encoding == FLOAT:
        x = np.frombuffer(samples, f"<f{size}")
        x = x.astype(np.float32) if size == 4 else x
        if not np.isfinite(x).all():
            raise UserError("contains non-finite samples")
    elif size == 1:
        x = np.frombuffer(samples, np.uint8).astype(np.float32)
        x -= 128
        x /= 128
    elif size == 3:
        wide = np.zeros((len(samples) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(samples, np.uint8).reshape(-1, 3)
        x = (wide.view("<i4")[:, 0] >> 8).astype(np.float32)
        x /= 2**23
    else:
        x = np.frombuffer(samples, f"<i{size}").astype(np.float32)
        x /= 2 ** (8 * size - 1)
    return rate, x.reshape(-1, channels)


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """Return the header and the samples; other chunks are skipped, and what follows the RIFF chunk."""
    found: dict[bytes, bytes] = {}
    announced = struct.unpack_from("<I", data, 4)[0]
    at, end = 12, len(data) if announced in (0, 2**32 - 1) else min(len(data), 8 + announced)
    while at + 8 <= end:
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name in found:
            raise UserError(f"has two chunks {name.decode()!r}")
        rest = len(data) - at - 8
        if b"data" in found and (not name.decode("latin-1").isprintable() or size > rest):
            break  # no chunk
        if name == b"data" and size > rest:
            raise _unfinished(size, rest)
        if name in (b"fmt ", b"data"):
            found[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    for name in (b"fmt ", b"data"):
        if name not in found:
            raise UserError(f"is damaged or cut off: it has no chunk {name.decode()!r}: fetch it again")
    if at < end:  # within the RIFF chunk, but no chunk itself: samples
        raise _unfinished(len(found[b"data"]), len(found[b"data"]) + end - at)
    return found[b"fmt "], found[b"data"]


def _unfinished(announced: int, found: int) -> UserError:
    return UserError(
        f"is cut off, or its recording did not finish or was written to a pipe: its header announces {announced:,} "
        f"bytes of samples, it has {found:,}: fetch it again, or write it again, as with `ffmpeg -i FILE NEW.wav`"
    )


def _format(header: bytes) -> tuple[int, int, int, int]:
    """Return encoding, rate, channels and bytes of a sample."""
    if len(header) < 16:
        raise UserError(f"is damaged: its header has {len(header)} bytes")
    encoding, channels, rate, a_second, frame, bits = struct.unpack_from("<HHIIHH", header)
    if encoding == EXTENSIBLE and len(header) >= 40:
        encoding = struct.unpack_from("<H", header, 24)[0]
        if header[26:40] != _GUID:
            encoding = EXTENSIBLE
    if (encoding, bits) not in [(PCM, b) for b in (8, 16, 24, 32)] + [(FLOAT, b) for b in (32, 64)]:
        kind = {PCM: "PCM", FLOAT: "floats"}.get(encoding) or _OTHERS.get(encoding, f"encoding {encoding:#06x}")
        raise UserError(f"has {kind} with {bits} bits; expected PCM with 8, 16, 24 or 32, or floats: convert it")
    if not 1 <= channels <= _MAX_CHANNELS:
        raise UserError(f"has {channels} channels; expected 1 … {_MAX_CHANNELS}")
    if frame != channels * bits // 8 or a_second != rate * frame:
        raise UserError(
            f"has a header that contradicts itself: {channels} channels, {bits} bits and {rate} Hz, but {frame} bytes "
            f"a frame and {a_second} a second"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"has a sample rate of {rate} Hz; expected {RATES[0]} … {RATES[1]}")
    return encoding, rate, channels, bits // 8
