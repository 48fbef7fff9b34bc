"""No value becomes another by being stored in fewer bits, and nothing that counts wraps."""

import ast
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmkd_jax
from mmkd_jax import losses
from mmkd_jax.core.objective import term
from mmkd_jax.data import GrainLoader, InMemory, Partners, from_columns
from mmkd_jax.data._order import first_position, order
from mmkd_jax.errors import UserError
from mmkd_jax.tasks import classification
from mmkd_jax.training.scores import evaluate
from tests.never_silent.setting import columns, loader, teacher_and_student

DATA = pathlib.Path(mmkd_jax.__file__).parent / "data"

# file of data/ -> its conversions of dtype, and why none changes a value that anyone may give
CONVERSIONS = {
    "_order.py": 5,  # of counts: below, at 2³¹ and 2³²
    "narrowing.py": 2,  # compared before and after; and texts
    "_topics.py": 7,  # counts and indices below 2³¹
    "partners.py": 2,  # a hash, and an index below n
    "picture_file.py": 2,  # clipped before; and means of two bytes
    "wav_file.py": 3,  # scaled to −1 … 1; 32-bit samples are rounded to 24 bits
    "sounds.py": 2,  # of int16, and of floats in −1 … 1
    "speech.py": 1,  # wider
    "filter_bank.py": 2,  # wider; and levels, normalized
    "voice_windows.py": 1,  # wider
    "preprocess/log_mel.py": 2,  # decibels; and clipped to the range before
    "preprocess/read_array.py": 1,  # compared before and after
    "raw/from_tfds.py": 1,  # compared before and after
    "commands.py": 2,  # wider
    "datasets/av_digits.py": 1,  # clipped before
    "datasets/emoji.py": 2,  # wider; and a mean of bytes
    "datasets/mnist.py": 1,  # multiples of 1/256, checked
    "datasets/sentiment_intensity.py": 1,  # shares
}


def test_every_conversion_is_known():
    found = {}
    for path in DATA.rglob("*.py"):
        nodes = [
            n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute) and n.attr == "astype"
        ]
        if nodes:
            found[path.relative_to(DATA).as_posix()] = len(nodes)
    assert found == CONVERSIONS


MADE = {
    "from_columns": lambda name, x: from_columns({name: x}, "made-up"),
    "with_columns": lambda name, x: from_columns({"a": np.zeros(len(x), np.float32)}, "made-up").with_columns(
        **{name: x}
    ),
    "a loader's with_columns": lambda name, x: (
        loader({"a": np.zeros(len(x), np.float32)}).with_columns(**{name: x}).dataset
    ),
}


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize(
    ("name", "x", "words"),
    [
        ("example_id", np.array([1, 10_000_000_001]), "'example_id' is 10000000001 in row 1, beyond int32: renumber"),
        ("example_id", np.array([2**31, 1], np.uint32), "'example_id' is 2147483648 in row 0, beyond int32"),
        ("example_id", np.array([0.0, 1.0]), r"'example_id' is float64\[2\]; expected an integer for each row"),
        ("label", np.array([0, -(2**31) - 1]), "'label' is -2147483649 in row 1"),
        ("hash", np.array([[1, 2], [3, 2**64 - 1]], np.uint64), "'hash' is 18446744073709551615 in row 1"),
        ("x", np.array([1.0, 1e39]), "'x' is 1e.39 in row 1, beyond float32: scale it"),
        ("x", [[1, 2], [3]], "'x' is a list of unequal lengths: pad it"),
        ("x", np.array([{}, None]), "'x' is object; expected an array of numbers"),
        ("when", np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), r"'when' is datetime64\[D\]"),
    ],
)
def test_what_does_not_fit_is_refused(make, name, x, words):
    """Ids or labels beyond 32 bits, floats beyond float32, objects, dates, lists of unequal lengths as a column →
    refused by column and row.
    """
    with pytest.raises(UserError, match=words):
        MADE[make](name, x)


def test_both_readers_read_the_same_bits():
    """Float64, int64, lists and other dtypes → the same bits in memory and streamed."""
    draw = np.random.default_rng(0)
    rows = {
        "float64": draw.normal(size=(9, 2)),
        "int64": draw.integers(-(2**31), 2**31, 9),
        "uint8": draw.integers(0, 255, (9, 3)).astype(np.uint8),
        "float16": draw.normal(size=9).astype(np.float16),
        "flag": draw.random(9) < 0.5,
        "list": [[0.1, 0.2]] * 9,
        "infinite": np.array([np.inf, np.nan, *range(7)]),
    }
    dataset = from_columns(rows, "made-up")
    memory, stream = InMemory(dataset, 4), GrainLoader(dataset, 4)
    assert memory.spec == stream.spec
    for read in (lambda x: x.batches(3), lambda x: x.eval_batches()):
        for ours, theirs in zip(list_of(read(memory)), list_of(read(stream)), strict=True):
            assert set(ours) == set(theirs)
            for k in ours:
                assert ours[k].dtype == theirs[k].dtype and ours[k].tobytes() == theirs[k].tobytes(), k


def list_of(batches):
    return [{k: np.asarray(x) for k, x in batch.items()} for batch, _ in zip(batches, range(3), strict=False)]


PLACES = [0, 1, 1000, 2**24 + 1, 2**31 - 2, 2**31 - 1]


@pytest.mark.parametrize("n", [1, 3, 6000, 2**16, 2**24 - 1, 2**30 + 7, 2**31 - 1])
def test_where_a_step_starts_is_exact(n):
    """More than 2³¹ or 2³² positions in the data → epoch and row are exact, up to 2⁶²."""
    compiled = jax.jit(lambda step, size: first_position(step, size, n), static_argnums=1)
    tried = 0
    for size in (1, 7, 4096, 2**20 + 1, 2**31 - 1):
        for step in PLACES:
            epoch, first = divmod(step * size, n)
            if epoch >= 2**31:
                continue
            tried += 1
            assert [x.item() for x in first_position(step, size, n)] == [epoch, first]
            assert [x.item() for x in compiled(jnp.int32(step), size)] == [epoch, first]
    assert tried >= 5


@pytest.mark.parametrize("position", [2**31, 2**32, 2**40, 2**45])
def test_positions_beyond_32_bits(position):
    """Training beyond 2³², 2⁴⁰ or 2⁴⁵ rows → both loaders agree, and each epoch is still a permutation."""
    rows, size = 20_011, 2**17
    dataset = from_columns({"x": np.arange(float(rows))}, "made-up")
    step = position // size
    memory, stream = InMemory(dataset, size), GrainLoader(dataset, size)
    batch, arrays = jax.jit(memory.batch), memory.arrays()
    streamed = iter(stream.batches(0, step))
    before = batch(arrays, jax.random.key(0), 0)
    for i in range(2):
        ours, theirs = batch(arrays, jax.random.key(0), step + i), next(streamed)
        for k in ours:
            np.testing.assert_array_equal(ours[k], theirs[k])
        np.testing.assert_array_equal(
            ours["view_index"], (np.arange(size, dtype=np.uint64) + (step + i) * size) // rows
        )
        for epoch in np.unique(ours["view_index"])[1:-1]:
            assert sorted(ours["example_id"][ours["view_index"] == epoch].tolist()) == list(range(rows))
    assert (np.asarray(ours["example_id"]) != np.asarray(before["example_id"])).any()


def test_early_positions_keep_their_order():
    """Runs that resume read what they would have read."""
    words = np.array([0, 7], np.uint32)
    for step in (0, 5, 300):
        epoch, first = first_position(step, 16, 50)
        wanted = order(words, np.arange(16, dtype=np.uint32) + np.uint32(16 * step), 50)
        found = order(words, first + np.arange(16, dtype=np.uint32), 50, epoch)
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("changes", [{"steps": 2**31}, {"steps": 2**31 - 1, "data": loader(columns(), batch_size=13)}])
def test_more_steps_or_epochs_than_are_counted_are_refused(changes):
    """2³¹ steps or epochs → refused."""
    with pytest.raises(UserError, match="steps and epochs are counted up to 2147483647"):
        teacher_and_student(**changes)


def test_evaluation_counts_beyond_float32():
    """An evaluation of more than 2²⁴ rows → counted exactly."""
    batches = [2**24, 1, 1, 2**32]
    measure = lambda variables, rows: ({"accuracy": (np.float32(rows), np.float32(rows))}, {}, {})  # noqa: E731
    task = classification(2)._replace(rows=(), whole=lambda rows: {})
    assert float(evaluate(task, measure, None, batches)["accuracy"]) == 1
    halves = lambda variables, rows: ({"accuracy": (np.float32(rows == 1), np.float32(rows))}, {}, {})  # noqa: E731
    assert float(evaluate(task, halves, None, batches)["accuracy"]) == 2 / (2**24 + 2 + 2**32)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_beyond_32_bits_are_refused(seed):
    """A seed below 0 or beyond 32 bits → refused."""
    with pytest.raises(UserError, match=f"seed is {seed}"):
        Partners(("label",), seed=seed)
    for stream in (False, True):
        with pytest.raises(UserError, match=f"seed is {seed}"):
            next(iter(loader(columns(), stream).batches(seed)))


def test_a_data_set_of_more_rows_than_are_counted_is_refused():
    """2³¹ rows → refused."""
    huge = dataclasses.replace(from_columns({"x": np.zeros(2)}, "made-up"), size=2**31)
    for kind in (InMemory, GrainLoader):
        with pytest.raises(UserError, match="the data set has 2147483648 rows"):
            _ = kind(huge, 4).spec


@pytest.mark.parametrize("value", [1e39, -1e300, 1e-60])
def test_hyperparameters_that_float32_cannot_hold_are_refused(value):
    """A hyperparameter of 1e39, or of 1e−60 → refused by name."""
    with pytest.raises(UserError, match="which float32 cannot hold"):
        term(losses.kl, student="student.logits", teacher="teacher.logits", weight=value)


def test_columns_of_other_dtypes_are_kept():
    """bfloat16, complex64, and texts as objects → taken; int64 in a hand-made data set → refused."""
    rows = {
        "half": jnp.ones((2, 3), jnp.bfloat16),
        "wave": np.ones(2, np.complex64),
        "text": np.array(["a", "bc"], object),
    }
    made = from_columns(rows, "made-up")
    assert made.columns["half"].dtype == jnp.bfloat16 and made.columns["wave"].dtype == np.complex64
    assert made.columns["text"].tolist() == ["a", "bc"] and made.columns["text"].dtype.kind == "U"
    wide = dataclasses.replace(made, spec={"label": jax.ShapeDtypeStruct((), np.int64)})
    with pytest.raises(UserError, match="column 'label' is int64; JAX computes in 32 bits"):
        _ = InMemory(wide, 2).spec
