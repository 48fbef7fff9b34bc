import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data._topics import rows_of_topic
from mmkd_jax.errors import UserError
from tests.data.test_loaders import same, take

SIZES = (11, 4, 9)  # with batches of 4: 2, 1 and 2 of them, and 3, 0 and 1 rows that are left out
TOPIC = np.repeat(np.array([7, 2, 30], np.int32), SIZES)[np.random.default_rng(0).permutation(sum(SIZES))]
ROWS = data.from_columns({"x": np.arange(24, dtype=np.float32), "topic": TOPIC}, "small")


def test_a_batch_has_one_topic_and_an_epoch_each_row_once_at_most():
    batches = take(data.InMemory(ROWS, 4, topic="topic"), 20)
    assert all(len({*b["topic"].tolist()}) == len({*b["view_index"].tolist()}) == 1 for b in batches)
    left_out = []
    for epoch in range(4):
        own = batches[5 * epoch : 5 * epoch + 5]
        assert {int(v) for b in own for v in b["view_index"]} == {epoch}
        assert sorted(int(b["topic"][0]) for b in own) == [2, 7, 7, 30, 30]
        rows = np.concatenate([b["x"] for b in own])
        assert len({*rows.tolist()}) == 20
        left_out.append(sorted({*range(24)} - {*rows.tolist()}))
        assert sorted(TOPIC[left_out[-1]]) == [7, 7, 7, 30]
    assert len({tuple(x) for x in left_out}) > 1
    assert len({tuple(int(b["topic"][0]) for b in batches[5 * e : 5 * e + 5]) for e in range(4)}) > 1


def test_both_loaders_and_processes_have_the_same_batches_from_any_step():
    memory, stream = data.InMemory(ROWS, 4, topic="topic"), data.GrainLoader(ROWS, 4, topic="topic")
    batches = take(memory, 11)
    same(batches, take(stream, 11))
    same(batches[6:], take(memory, 5, start=6))
    same(batches[6:], take(stream, 5, start=6))
    shares = [take(stream.share(p, 2), 11) for p in range(2)]
    same(batches, [{k: np.concatenate([p[i][k] for p in shares]) for k in batches[0]} for i in range(11)])
    assert memory.fingerprint == stream.fingerprint != data.InMemory(ROWS, 4).fingerprint
    assert memory.spec == data.InMemory(ROWS, 4).spec
    far = take(memory, 1, start=2_000_000_001)
    same(far, take(stream, 1, start=2_000_000_001))
    assert far[0]["view_index"].tolist() == [400_000_000] * 4
    one = data.InMemory(ROWS, 4, topic="topic").with_columns(y=np.arange(24, dtype=np.float32))
    assert (take(one, 1)[0]["y"] == batches[0]["x"]).all()


def test_a_population_draws_from_its_own_keys():
    memory = data.InMemory(ROWS, 4, topic="topic")
    arrays, keys = memory.arrays(), jnp.stack([jax.random.key(3), jax.random.key(4)])
    many = jax.jit(jax.vmap(lambda key: memory.batch(arrays, key, 2)["x"]))(keys)
    for own, seed in zip(many, (3, 4), strict=True):
        np.testing.assert_array_equal(own, take(data.GrainLoader(ROWS, 4, topic="topic"), 1, seed, start=2)[0]["x"])


def test_rows_of_a_topic_are_drawn_about_equally_often():
    """400 epochs of 6 batches of 7 rows: a row of the topic with 24 rows is left out of one in eight."""
    words, places, rows = jnp.array([0, 5], jnp.uint32), jnp.arange(7), jnp.arange(45)
    draw = jax.jit(jax.vmap(lambda i: rows_of_topic(words, i, places, 7, np.array([24, 21], np.int32), rows)[0]))
    counts = np.bincount(np.asarray(draw(jnp.arange(2400))).ravel(), minlength=45)
    assert (counts[24:] == 400).all()
    assert abs(counts[:24] / 350 - 1).max() < 0.06  # four standard deviations


@pytest.mark.parametrize("kind", [data.InMemory, data.GrainLoader])
def test_refusals(kind):
    with pytest.raises(UserError, match="topic='theme' is not a column; there are: example_id, topic, x"):
        kind(ROWS, 4, topic="theme")
    with pytest.raises(UserError, match=r"topic 'x' is float32\[\]; expected one integer a row"):
        kind(ROWS, 4, topic="x")
    with pytest.raises(UserError, match=r"topic 2 has 4 rows, fewer than a batch of 5 \(1 of 3 topics\)"):
        kind(ROWS, 5, topic="topic").batches(0).__next__()
    wrong = ROWS.with_columns(topic=np.where(np.arange(24) == 5, np.int32(-1), TOPIC))
    with pytest.raises(UserError, match=r"topic -1 in row 5 is negative \(1 such rows\)"):
        kind(wrong, 4, topic="topic").batches(0).__next__()
