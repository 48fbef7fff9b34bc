import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.augment import text
from mmkd_jax.errors import UserError

N = 400
KEYS = jax.random.split(jax.random.key(7), N)
IDS, MASK = np.array([1, 11, 12, 13, 14, 2, 0, 0], np.int32), np.arange(8) < 6  # 1 … 2: special tokens
TAGS = np.array([0, 1, 2, 3, 4, 0, 9, 9], np.int32)


def over(step, ids=IDS, mask=MASK, n=N):
    batch = {"text.ids": ids, "text.mask": mask, "tags": TAGS[: len(ids)]}
    out = step({k: jnp.asarray(np.broadcast_to(v, (n, *v.shape))) for k, v in batch.items()}, KEYS[:n])
    return {k: np.asarray(v) for k, v in out.items()}


def test_masking(strict):
    seen = over(text.Mask(0.3, mask_id=5, keep=(1, 2)))["text.ids"]
    hit = seen == 5
    assert not hit[:, [0, 5, 6, 7]].any() and (seen[~hit] == np.stack([IDS] * N)[~hit]).all()
    assert hit[:, 1:5].mean() == pytest.approx(0.3, abs=0.04)


def test_dropping_moves_up_tags_and_mask(strict):
    out = over(text.TokenDropout(0.4, keep=(1, 2), along=("tags",)))
    lengths = out["text.mask"].sum(1)
    assert (6 - lengths).mean() == pytest.approx(4 * 0.4, abs=0.15) and lengths.min() == 2
    for ids, mask, tags in zip(out["text.ids"], out["text.mask"], out["tags"], strict=True):
        there = ids[mask].tolist()
        assert there[0] == 1 and there[-1] == 2 and there == sorted(there[:-1]) + [2]  # in order
        assert (mask == (np.arange(8) < len(there))).all() and (ids[~mask] == 0).all()
        assert tags[mask].tolist() == [TAGS[IDS.tolist().index(i)] for i in there]
        assert tags[6:].tolist() == [9, 9]  # what was padding is not touched


def test_dropping_leaves_a_token_and_no_text_as_it_is(strict):
    out = over(text.TokenDropout(1.0))
    assert (out["text.mask"].sum(1) == 1).all() and set(out["text.ids"][:, 0]) == {1, 11, 12, 13, 14, 2}
    empty = over(text.TokenDropout(0.5), mask=np.zeros(8, bool), n=3)
    np.testing.assert_array_equal(empty["text.ids"], np.stack([IDS] * 3))
    assert not empty["text.mask"].any()


@pytest.mark.full
def test_swaps(strict):
    out = over(text.Swap(1, keep=(1, 2), along=("tags",)))
    moved = out["text.ids"] != IDS
    assert (moved.sum(1) == 2).all() and not moved[:, [0, 5, 6, 7]].any()
    pairs = {tuple(np.flatnonzero(m)) for m in moved}
    assert len(pairs) == 6
    where = np.array([[IDS.tolist().index(i) for i in row[:6]] for row in out["text.ids"]])
    np.testing.assert_array_equal(out["tags"][:, :6], TAGS[where])
    more = over(text.Swap(5))["text.ids"]
    assert (np.sort(more[:, :6]) == np.sort(IDS[:6])).all() and (more[:, 6:] == 0).all()


@pytest.mark.full
@pytest.mark.parametrize("length", [0, 1])
def test_nothing_to_swap(length, strict):
    np.testing.assert_array_equal(over(text.Swap(2), mask=np.arange(8) < length, n=4)["text.ids"], np.stack([IDS] * 4))


@pytest.mark.parametrize("step", [text.Mask(0.0, 5), text.TokenDropout(0.0), text.Swap(0)], ids=repr)
def test_no_strength_changes_nothing(step, strict):
    out = over(step, n=4)
    np.testing.assert_array_equal(out["text.ids"], np.stack([IDS] * 4))
    np.testing.assert_array_equal(out["text.mask"], np.stack([MASK] * 4))


def test_masks_that_are_not_a_prefix(strict):
    """Padding on the left stays where it is in swaps and masking; dropping moves what is there to the front."""
    mask = np.array([0, 0, 1, 1, 1, 0, 0, 0], bool)
    swapped = over(text.Swap(3), mask=mask)["text.ids"]
    np.testing.assert_array_equal(swapped[:, ~mask], np.stack([IDS[~mask]] * N))
    dropped = over(text.TokenDropout(0.5), mask=mask)
    assert set(np.unique(dropped["text.ids"][dropped["text.mask"]])) == {12, 13, 14}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: text.Mask(2, 5), "rate"),
        (lambda: text.TokenDropout(-0.1), "rate must be between 0 and 1, not -0.1"),
        (lambda: text.Swap(-1), "times"),
        (lambda: over(text.TokenDropout(0.1, along=("pos",))), "needs 'pos'"),
        (lambda: text.Swap()({"image": jnp.ones(1)}, KEYS[:1]), "needs 'text.ids'"),
    ],
)
def test_errors(make, said):
    with pytest.raises(UserError, match=said):
        make()
