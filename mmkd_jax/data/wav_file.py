"""WAV files as floats: every PCM and float format, with headers compared with the content.

scipy and libsndfile return fewer samples of a file that is cut off.
"""

import io
import struct
from typing import NamedTuple

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
_START = 4096
"""Bytes of a file that tell what it is."""
_LONGEST_HEADER = 64


class Wav(NamedTuple):
    """An opened WAV file, whose samples are decoded a block of frames at a time.

    Attributes:
        rate: sample rate, in Hz.
        shape: numbers of frames and of channels.
        size: bytes per sample.
        floating: whether samples are floats.
        file: the file, which has to stay open.
        at: position of the samples in the file, in bytes.
    """

    rate: int
    shape: tuple[int, int]
    size: int
    floating: bool
    file: io.BufferedIOBase
    at: int

    def frames(self, start: int, end: int) -> Float[np.ndarray, "n c"]:
        """Decode frames start … end − 1.

        Formula: x / 2^(bits − 1) for integers; 8-bit samples are unsigned, with 128 as 0

        Returns:
            Samples in −1 … 1 with one column per channel, float32 (of 64-bit floats, float64).

        Raises:
            UserError: a sample is not finite, or the file was cut off since it was opened; the message lacks the path.
        """
        channels = self.shape[1]
        frame, end = channels * self.size, min(end, self.shape[0])
        self.file.seek(self.at + start * frame)
        block = self.file.read((end - start) * frame)
        if len(block) < (end - start) * frame:
            raise UserError("changed while it was read: read it again")
        if self.floating:
            x = np.frombuffer(block, f"<f{self.size}")
            if not np.isfinite(x).all():
                raise UserError("contains non-finite samples")
        elif self.size == 1:
            x = np.frombuffer(block, np.uint8).astype(np.float32)
            x -= 128
            x /= 128
        elif self.size == 3:
            wide = np.zeros((len(block) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(block, np.uint8).reshape(-1, 3)
            x = (wide.view("<i4")[:, 0] >> 8).astype(np.float32)
            x /= 2**23
        else:
            x = np.frombuffer(block, f"<i{self.size}").astype(np.float32)
            x /= 2 ** (8 * self.size - 1)
        return x.reshape(-1, channels)


def opened(file: io.BufferedIOBase) -> Wav:
    """Open a WAV file: PCM with 8, 16, 24 or 32 bits, or floats with 32 or 64.

    Args:
        file: the file, opened in binary mode.

    Raises:
        UserError: the file is no WAV file, is cut off, has another encoding, or its header contradicts itself; the
            message lacks the path.

    Example:
        >>> import io, scipy.io.wavfile
        >>> file = io.BytesIO()
        >>> scipy.io.wavfile.write(file, 8_000, np.int16([0, -32_768, 16_384]))
        >>> wav = opened(file)
        >>> wav.rate, wav.frames(0, 3)[:, 0].tolist()
        (8000, [0.0, -1.0, 0.5])
    """
    file.seek(0)
    start = file.read(_START)
    if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
        raise UserError(f"{looks_like(start)}; expected a .wav file: {remedy(start, 'convert it, or pass arrays')}")
    header, at, length = _chunks(file, struct.unpack_from("<I", start, 4)[0])
    encoding, rate, channels, size = _format(header)
    if length % (channels * size):
        raise UserError(f"has {length} bytes of samples, which {channels} × {size} bytes do not divide")
    if not length:
        raise UserError("has no samples")
    return Wav(rate, (length // (channels * size), channels), size, encoding == FLOAT, file, at)


def _chunks(file: io.BufferedIOBase, announced: int) -> tuple[bytes, int, int]:
    """Return the header, and position and length of the samples.

    Other chunks are skipped, and what follows the RIFF chunk.
    """
    length = file.seek(0, io.SEEK_END)
    found: dict[bytes, tuple[int, int]] = {}
    at, end = 12, length if announced in (0, 2**32 - 1) else min(length, 8 + announced)
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name in found:
            raise UserError(f"has two chunks {name.decode()!r}")
        rest = length - at - 8
        if b"data" in found and (not name.decode("latin-1").isprintable() or size > rest):
            break  # no chunk
        if name == b"data" and size > rest:
            raise _unfinished(size, rest)
        if name in (b"fmt ", b"data"):
            found[name] = at + 8, min(size, rest)
        at += 8 + size + size % 2
    for name in (b"fmt ", b"data"):
        if name not in found:
            raise UserError(f"is damaged or cut off: it has no chunk {name.decode()!r}: fetch it again")
    first, samples = found[b"data"]
    if at < end:  # within the RIFF chunk, but no chunk itself: samples
        raise _unfinished(samples, samples + end - at)
    start, size = found[b"fmt "]
    file.seek(start)
    return file.read(min(size, _LONGEST_HEADER)), first, samples


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
