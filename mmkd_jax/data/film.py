"""Films as frames: MP4, MOV, WebM, Matroska and AVI, read with PyAV, which nothing else imports."""

import importlib
import io
from typing import Any

import numpy as np
from PIL import Image

from mmkd_jax.data.picture_file import MAX_PIXELS
from mmkd_jax.errors import UserError, shown

_MOST_FRAMES = 100_000


def container(start: bytes) -> str | None:
    """Return FFmpeg's name of a film's container by its first 12 bytes; None for other files.

    Example:
        >>> container(bytes.fromhex("00000018") + b"ftypmp42"), container(b"GIF89a")
        ('mov', None)
    """
    if start[4:8] in (b"ftyp", b"moov", b"wide", b"mdat"):
        return "mov"
    if start[:4] == bytes.fromhex("1a45dfa3"):
        return "matroska"
    return "avi" if start[:4] == b"RIFF" and start[8:12] == b"AVI " else None


def frames(data: bytes, name: str, count: int, repeat: bool = False) -> list[Image.Image]:
    """Return evenly sampled frames of a film, as RGB and upright.

    The file is decoded twice, to count its frames and to take some, so that few are in memory. The container is named
    to FFmpeg, which therefore opens neither other files nor addresses that a film refers to.

    Formula: of t frames, the frames ⌊i t / count⌋ for i = 0 … count − 1

    Args:
        data: content of the file.
        name: name of the video, used in messages; has the path.
        count: number of frames to return.
        repeat: repeat frames of films with fewer; if False, they are refused.

    Raises:
        UserError: PyAV is not installed, the file is damaged, cut off, has too large frames, or has too few frames.
    """
    try:
        av: Any = importlib.import_module("av")
    except ImportError:
        raise UserError(f"{name}: films are read with PyAV: pip install 'mmkd_jax[video]', or pass frames") from None
    form = container(data[:12])

    def decoded():
        with av.open(io.BytesIO(data), format=form) as file:
            if not file.streams.video:
                raise UserError(f"{name} has no video: fetch it again")
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > MAX_PIXELS or stream.frames > _MOST_FRAMES:
                raise UserError(
                    f"{name} has {stream.frames} frames of {stream.width} × {stream.height} pixels; expected at most "
                    f"{_MOST_FRAMES:,} of {MAX_PIXELS:,} pixels: split or scale it"
                )
            for i, frame in enumerate(file.decode(stream)):
                if i == _MOST_FRAMES or frame.width * frame.height > MAX_PIXELS:
                    raise UserError(f"{name} has over {_MOST_FRAMES:,} frames, or too large ones: split or scale it")
                yield frame, stream.frames

    try:
        announced = [n for _, n in decoded()]
        total = len(announced)
        if not total or total < announced[0]:
            raise UserError(f"{name} is cut off: it has {total} of {max([0, *announced])} frames: fetch it again")
        if total < count and not repeat:
            raise UserError(f"{name} has {total} frames; expected {count}: set repeat=True to repeat frames")
        wanted = (np.arange(count) * total // count).tolist()
        taken = {
            i: frame.to_image().rotate(frame.rotation, expand=True)
            for i, (frame, _) in enumerate(decoded())
            if i in set(wanted)
        }
    except UserError:
        raise
    except Exception as error:  # PyAV has a class for each number of FFmpeg
        raise UserError(f"{name} is damaged or cut off ({shown(str(error), 160)}): fetch it again") from None
    return [taken[i] for i in wanted]
