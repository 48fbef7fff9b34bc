import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.augment import audio
from mmkd_jax.errors import UserError

N = 300
KEYS = jax.random.split(jax.random.key(5), N)
LEVELS = np.arange(1, 61, dtype=np.uint8).reshape(10, 6)


def over(step, row, mask=None):
    """A step on many copies of a row, each with its own key; as one program, which compiles in less time."""
    batch = {step.modality: np.broadcast_to(row, (N, *row.shape))}
    if mask is not None:
        batch[f"{step.modality}.mask"] = np.broadcast_to(mask, (N, *mask.shape))
    return np.asarray(jax.jit(step)(batch, KEYS)[step.modality])


def test_specaugment_blanks_blocks_of_the_widths_it_says(strict):
    blank = over(audio.SpecAugment(bands=2, frames=0, fill=0), LEVELS) == 0
    widths = blank.all(1).sum(1)
    assert set(widths) == {0, 1, 2} and (blank.all(1) == blank.any(1)).all()
    assert blank.mean((0, 1)).min() > 0.05  # every band is hit
    blank = over(audio.SpecAugment(bands=0, frames=5, fill=0), LEVELS) == 0
    widths = blank.all(2).sum(1)
    assert set(widths) == set(range(6)) and blank.mean((0, 2)).min() > 0.05
    for row in blank[:50, :, 0]:
        assert np.abs(np.diff(row.astype(int), prepend=0, append=0)).sum() in (0, 2)  # one block
    two = over(audio.SpecAugment(bands=0, frames=3, frame_blocks=2, fill=0), LEVELS) == 0
    assert two[:, :, 0].sum(1).max() > 3


def test_specaugment_share_counts_frames_under_the_mask(strict):
    mask = np.arange(10) < 6
    seen = over(audio.SpecAugment(bands=6, frames=100, share=0.5, fill=0), LEVELS, mask)
    np.testing.assert_array_equal(seen[:, 6:], np.stack([LEVELS[6:]] * N))
    no_bands = over(audio.SpecAugment(bands=0, frames=100, share=0.5, fill=0), LEVELS, mask)
    assert set((no_bands[:, :, 0] == 0).sum(1)) == {0, 1, 2, 3}


def test_specaugment_fills_with_the_mean_under_the_mask(strict):
    mask = np.arange(10) < 4
    for row in (LEVELS, (LEVELS / 7).astype(np.float32)):
        seen = over(audio.SpecAugment(bands=6, frames=0), row, mask)
        filled = seen[seen != row]
        mean = row[:4].mean(dtype=np.float64)
        np.testing.assert_allclose(filled, np.floor(mean + 0.5) if row.dtype == np.uint8 else mean, rtol=1e-6)
        assert seen.dtype == row.dtype and len(filled)


def test_noise_has_the_ratio_that_was_drawn(strict):
    row = np.sin(np.arange(1000)).astype(np.float32) * 3
    row[800:] = 1e6  # padding, which counts in neither power
    mask, step = np.arange(1000) < 800, audio.Noise((-5, 25))
    seen = over(step, row, mask)
    np.testing.assert_array_equal(seen[:, 800:], np.stack([row[800:]] * N))
    noise = (seen - row)[:, :800].astype(np.float64)
    ratio = 10 * np.log10((row[:800].astype(np.float64) ** 2).sum() / (noise**2).sum(1))
    np.testing.assert_allclose(ratio, step.drawn(KEYS), atol=1e-3)
    assert ratio.min() < -3 and ratio.max() > 23
    assert abs(noise.mean()) < 0.02 and abs((noise[:, 1:] * noise[:, :-1]).mean() / (noise**2).mean()) < 0.01  # white
    assert (over(step, np.zeros(50, np.float32)) == 0).all()  # silence stays


def test_shift_within_the_mask(strict):
    mask = np.arange(10) < 7
    seen = over(audio.Shift(3, fill=0), LEVELS, mask)
    shifts = []
    for row in seen:
        np.testing.assert_array_equal(row[7:], LEVELS[7:])
        s = next(
            s for s in range(-3, 4) if (row[max(s, 0) : 7 + min(s, 0)] == LEVELS[max(-s, 0) : 7 - max(s, 0)]).all()
        )
        assert (row[: max(s, 0)] == 0).all() and (row[7 + min(s, 0) : 7] == 0).all()
        shifts.append(s)
    assert set(shifts) == set(range(-3, 4))


def test_gain_by_hand(strict):
    row = np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(over(audio.Gain((20, 20)), row)[0], [10, -20], rtol=1e-6)
    db = 20 * np.log10(over(audio.Gain((-6, 6)), row)[:, 0])
    assert -6 <= db.min() < -5 and 5 < db.max() <= 6.001
    loud = over(audio.Gain((4, 4), levels_per_db=0.5, modality="audio"), np.array([[1, 254]], np.uint8))
    assert loud.dtype == np.uint8 and loud[0].tolist() == [[3, 255]]
    floats = over(
        audio.Gain((4, 4), levels_per_db=0.1, modality="audio"), np.ones((2, 2), np.float32), np.arange(2) < 1
    )
    np.testing.assert_allclose(floats[0], [[1.4, 1.4], [1, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    "step",
    [audio.SpecAugment(0, frames=0), audio.Shift(0), audio.Gain((0, 0), levels_per_db=1, modality="audio")],
    ids=repr,
)
def test_no_strength_changes_nothing(step, strict):
    np.testing.assert_array_equal(over(step, LEVELS), np.stack([LEVELS] * N))


def test_nan_where_there_is_no_sound_reaches_nobody_else(strict):
    levels = np.stack([LEVELS / 60, np.full((10, 6), np.nan)]).astype(np.float32)
    alone = audio.SpecAugment(3, frames=4)({"audio": jnp.asarray(levels[:1])}, KEYS[:1])["audio"]
    both = audio.SpecAugment(3, frames=4)({"audio": jnp.asarray(levels)}, KEYS[:2])["audio"]
    np.testing.assert_array_equal(both[:1], alone)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: audio.SpecAugment(-1), "bands"),
        (lambda: audio.SpecAugment(share=2), "share must be between 0 and 1, not 2"),
        (lambda: audio.SpecAugment(fill="median"), "'mean' or a number, not 'median'"),
        (lambda: over(audio.SpecAugment(27), LEVELS), "f ≥ 27"),
        (lambda: audio.Noise((30, 10)), r"snr must be \(low, high\), not \(30, 10\)"),
        (lambda: over(audio.Noise(), np.ones(3, np.int16)), "int16.*expected floats"),
        (lambda: audio.Shift(-3), "most"),
        (lambda: over(audio.Gain(), np.ones(3, np.int16)), "levels_per_db"),
    ],
)
def test_errors(make, said):
    with pytest.raises(UserError, match=said):
        make()
