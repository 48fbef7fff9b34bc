import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.augment import video
from mmkd_jax.errors import UserError

N = 300
KEYS = jax.random.split(jax.random.key(9), N)


def over(step, frames, there=None):
    """Which frames of a video of 1, 2, 3 … are seen, and the mask."""
    batch = {"video": jnp.asarray(np.broadcast_to(np.arange(1, frames + 1)[:, None, None, None], (N, frames, 1, 1, 1)))}
    if there is not None:
        batch["video.mask"] = jnp.asarray(np.broadcast_to(np.arange(frames) < there, (N, frames)))
    out = step(batch, KEYS)
    return np.asarray(out["video"])[:, :, 0, 0, 0], out.get("video.mask")


def test_clips_start_anywhere_with_each_stride(strict):
    seen, mask = over(video.RandomCrop(3, strides=(1, 2)), 7)
    assert mask is None
    clips = {tuple(c) for c in seen.tolist()}
    assert clips == {(s, s + 1, s + 2) for s in range(1, 6)} | {(s, s + 2, s + 4) for s in range(1, 4)}


def test_only_frames_under_the_mask(strict):
    seen, mask = over(video.RandomCrop(3, strides=(2,)), 7, there=6)
    assert {tuple(c) for c in seen.tolist()} == {(1, 3, 5), (2, 4, 6)} and bool(mask.all())
    seen, mask = over(video.RandomCrop(3, strides=(4,)), 7, there=5)  # the largest stride that fits is 2
    assert {tuple(c) for c in seen.tolist()} == {(1, 3, 5)} and bool(mask.all())
    seen, mask = over(video.RandomCrop(3, strides=(2,)), 7, there=2)
    assert {tuple(c) for c in seen.tolist()} == {(1, 2, 0)} and mask[0].tolist() == [True, True, False]
    seen, mask = over(video.RandomCrop(3), 7, there=0)
    assert (seen == 0).all() and not bool(mask.any())


def test_the_whole_video_is_itself(strict):
    seen, _ = over(video.RandomCrop(5), 5)
    assert (seen == np.arange(1, 6)).all()


def test_one_frame(strict):
    assert set(over(video.RandomCrop(1, strides=(3,)), 4)[0].ravel().tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: video.RandomCrop(0), "frames must be an integer of at least 1, not 0"),
        (lambda: video.RandomCrop(2, strides=(0,)), "strides"),
        (lambda: video.RandomCrop(2, strides=()), "empty"),
        (lambda: over(video.RandomCrop(9), 7), "has only 7 frames.*video.mask"),
    ],
)
def test_errors(make, said):
    with pytest.raises(UserError, match=said):
        make()
