"""Films as videos: MP4, WebM and others, which PyAV reads."""

import sys

import av
import numpy as np
import pytest

from mmkd_jax.data import film
from mmkd_jax.data.preprocess import ReadVideo
from mmkd_jax.errors import UserError

READ = ReadVideo(3, (16, 32))
LEVELS = [20, 60, 100, 140, 180, 220]


def recorded(path, codec="mpeg4", form=None):
    """Write six gray frames of 16 × 32 pixels, whose left half is darker."""
    with av.open(str(path), "w", format=form) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for level in LEVELS:
            pixels = np.full((16, 32, 3), level, np.uint8)
            pixels[:, :16] -= 20
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [
        ("a.mp4", "mpeg4", "mp4"),
        ("a.mov", "libx264", "mov"),
        ("a.webm", "libvpx-vp9", "webm"),
        ("a.avi", "mpeg4", "avi"),
    ],
)
def test_films_are_sampled_like_animations(tmp_path, name, codec, form):
    (frames,) = READ([recorded(tmp_path / name, codec, form)], ["clip 0"])
    assert frames.shape == (3, 16, 32, 3)
    np.testing.assert_allclose(frames[:, :, 20:].mean((1, 2, 3)), [LEVELS[i] for i in (0, 2, 4)], atol=4)
    assert (frames[:, :, :12].mean((1, 2, 3)) < frames[:, :, 20:].mean((1, 2, 3)) - 10).all()


def test_a_film_that_was_held_upright_is_turned(tmp_path):
    data = bytearray(recorded(tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 44  # the matrix of the track: a quarter turn clockwise
    turn = [0, 1 << 16, 0, -(1 << 16), 0, 0, 16 << 16, 0, 1 << 30]
    data[at : at + 36] = b"".join(x.to_bytes(4, "big", signed=True) for x in turn)
    first = np.asarray(film.frames(bytes(data), "clip 0", 1)[0])
    assert first.shape == (32, 16, 3) and first[:12].mean() < first[20:].mean() - 10  # the left half is on top


def test_bad_films_are_one_line(tmp_path, monkeypatch):
    good = recorded(tmp_path / "a.mp4").read_bytes()
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("aac", rate=8_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    cases = {
        "cut.mp4": (good[: len(good) // 2], "is damaged or cut off|is cut off"),
        "start.mp4": (good[:20], "is damaged or cut off"),
        "sound.mp4": (sound.read_bytes(), "has no video"),
        "long.mp4": (good, "has 6 frames; expected 7"),
    }
    for name, (data, expected) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"clip 4, .*{name}.*({expected})") as error:
            ReadVideo(7, (16, 32))([tmp_path / name], ["clip 4"])
        assert "\n" not in str(error.value)
    assert ReadVideo(7, (16, 32), repeat=True)([tmp_path / "long.mp4"], ["clip 4"])[0].shape == (7, 16, 32, 3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install 'mmkd_jax.video.'"):
        READ([tmp_path / "a.mp4"], ["clip 4"])
