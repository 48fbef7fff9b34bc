"""Videos as columns of a batch: which frames are taken, and what is refused."""

import numpy as np
import pytest

from mmkd_jax.data.images import Pictures
from mmkd_jax.data.videos import Videos
from mmkd_jax.errors import UserError

RAW = Pictures(size=None)


def numbered(n, size=(2, 3)):
    """Frame i is i everywhere."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, *size, 3)).copy()


def test_longer_videos_are_sampled_and_shorter_ones_repeated_when_asked():
    read = Videos(RAW, 4)
    found = read([numbered(4), list(numbered(9))])
    assert found.keys() == {"video"} and found["video"].shape == (2, 4, 2, 3, 3)
    assert found["video"][..., 0, 0, 0].tolist() == [[0, 1, 2, 3], [0, 2, 4, 6]]
    with pytest.raises(UserError, match="video 1: 3 frames; expected 4: pass repeat=True"):
        read([numbered(4), numbered(3)])
    assert read([numbered(3)], repeat=True)["video"][0, :, 0, 0, 0].tolist() == [0, 0, 1, 2]


def test_all_frames_are_kept_under_a_mask():
    found = Videos(RAW, modality="film")([numbered(1), numbered(3) + 1])
    assert found["film.mask"].tolist() == [[True, False, False], [True, True, True]]
    assert found["film"][..., 0, 0, 0].tolist() == [[0, 0, 0], [1, 2, 3]]
    none = Videos(RAW)([])
    assert none["video"].shape == (0, 0, 1, 1, 3) and none["video.mask"].shape == (0, 0)


def test_frames_of_unlike_sizes_are_made_alike():
    found = Videos(Pictures(size=(4, 5)), 2)([[numbered(1)[0], numbered(1, (7, 6))[0]]])
    assert found["video"].shape == (1, 2, 4, 5, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (numbered(4), "expected a sequence of videos, got a single one"),
        (["a.png", "b.png"], "expected a sequence of videos, got a single one"),
        ([numbered(0)], "video 0: 0 frames; expected at least 1"),
        ([numbered(2), numbered(2, (4, 4))], r"videos have different sizes, \(2, 3, 3\) and \(4, 4, 3\)"),
        ([numbered(2), list(numbered(2)) + [np.zeros((2, 3, 2), np.uint8)]], r"video 1, frame 2: uint8 of shape"),
        ([numbered(2).astype(np.float32)], r"video 0, frame 0: float32 of shape \[2, 3, 3\]; expected uint8"),
    ],
)
def test_what_is_no_video_is_named(given, said):
    with pytest.raises(UserError, match=said):
        Videos(RAW)(given)
