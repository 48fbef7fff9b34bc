import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.data._order import order

WORDS = np.array([0, 7], np.uint32)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 500, 6000])
def test_every_epoch_is_a_permutation(n):
    rows, epochs = order(WORDS, np.arange(4 * n), n)
    for epoch in range(4):
        here = slice(epoch * n, (epoch + 1) * n)
        np.testing.assert_array_equal(np.sort(rows[here]), np.arange(n))
        np.testing.assert_array_equal(epochs[here], epoch)


@pytest.mark.full
@pytest.mark.parametrize("n", [1, 3, 500, 6000])
def test_numpy_and_jax_agree(n):
    position = np.arange(2 * n + 5)
    for ours, theirs in zip(
        order(WORDS, position, n), order(jnp.asarray(WORDS), jnp.asarray(position), n), strict=True
    ):
        assert ours.dtype == theirs.dtype == np.int32
        np.testing.assert_array_equal(ours, theirs)


def test_epochs_and_keys_differ():
    n = 1000
    first, second = np.split(order(WORDS, np.arange(2 * n), n)[0], 2)
    other = order(np.array([0, 8], np.uint32), np.arange(n), n)[0]
    for a, b in ((first, second), (first, other), (first, np.arange(n))):
        assert (a == b).mean() < 0.01
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_every_row_visits_every_place():
    """Over many keys, a row is equally often in each eighth of the epoch."""
    n, keys = 64, 2000
    counts = np.zeros((n, 8))
    for key in range(keys):
        place = np.argsort(order(np.array([1, key], np.uint32), np.arange(n), n)[0])
        counts[np.arange(n), place // 8] += 1
    expected = keys / 8
    chi = ((counts - expected) ** 2 / expected).sum(1)
    assert chi.mean() == pytest.approx(7, abs=1.0) and chi.max() < 35


def test_vmap_over_keys_and_scan_over_steps():
    keys = jax.random.split(jax.random.key(0), 3)

    def epoch(key):
        def one(_, step):
            position = step * 4 + jnp.arange(4)
            return None, order(jax.random.key_data(key), position, 8)[0]

        return jax.lax.scan(one, None, jnp.arange(2))[1].ravel()

    rows = jax.vmap(epoch)(keys)
    np.testing.assert_array_equal(np.sort(rows, 1), np.tile(np.arange(8), (3, 1)))
    assert (rows[0] != rows[1]).any()
