"""F1 of spans, against seqeval in both of its modes."""

import warnings
from typing import Any

import numpy as np
import pytest
from seqeval import metrics as reference
from seqeval.scheme import IOB2

from mmkd_jax import metrics

STRICT: dict[str, Any] = {"mode": "strict", "scheme": IOB2}
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def words(rows, mask=None):
    mask = np.ones(rows.shape, bool) if mask is None else mask
    return [[TAGS[i] for i in row[counted]] for row, counted in zip(rows, mask, strict=True)]


@pytest.mark.parametrize("decoding", ["strict", "lenient"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_seqeval_s(seed, decoding):
    draw = np.random.default_rng(seed)
    y, x = draw.integers(0, 5, (12, 9)), draw.integers(0, 5, (12, 9))
    x = np.where(draw.random(x.shape) < 0.6, y, x)
    mask = draw.random(x.shape) < 0.8 if seed % 2 else None
    options = STRICT if decoding == "strict" else {}
    found = metrics.span_f1(y, x, TAGS, mask, decoding)
    actual, predicted = words(y, mask), words(x, mask)
    for name, value in (("precision", found.precision), ("recall", found.recall), ("f1", found.f1)):
        expected = getattr(reference, f"{name}_score")(actual, predicted, **options)
        assert value == pytest.approx(expected, abs=1e-14)
    by_type = dict(zip(found.types, found.counts.f1, strict=True))
    expected = reference.f1_score(actual, predicted, average=None, **options)  # types in alphabetical order
    assert [by_type["LOC"], by_type["PER"]] == pytest.approx(list(expected), abs=1e-14)
    everything = reference.classification_report(actual, predicted, output_dict=True, **options)
    support = dict(zip(found.types, found.counts.support, strict=True))
    assert support == {kind: everything[kind]["support"] for kind in found.types}


def test_an_i_without_b_is_a_span_in_lenient_decoding_only():
    y, x = np.array([[1, 2, 0, 3]]), np.array([[2, 2, 0, 3]])
    assert metrics.span_f1(y, x, TAGS).f1 == pytest.approx(2 / 3)
    assert metrics.span_f1(y, x, TAGS, decoding="lenient").f1 == 1
    assert reference.f1_score(words(y), words(x)) == 1
    assert reference.f1_score(words(y), words(x), **STRICT) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("tags", "strict", "lenient"),
    [
        ("B-A I-A I-B I-B", [("A", 0, 1)], [("A", 0, 1), ("B", 2, 3)]),
        ("B-A B-A I-A", [("A", 0, 0), ("A", 1, 2)], [("A", 0, 0), ("A", 1, 2)]),
        ("I-A B-A O I-A", [("A", 1, 1)], [("A", 0, 0), ("A", 1, 1), ("A", 3, 3)]),
        ("B-A-b I-A-b", [("A-b", 0, 1)], [("A-b", 0, 1)]),
    ],
)
def test_spans_of_a_sequence(tags, strict, lenient):
    assert [tuple(s) for s in metrics.decode_spans(tags.split())] == strict
    assert [tuple(s) for s in metrics.decode_spans(tags.split(), "lenient")] == lenient


def test_nothing_to_find_is_undefined_and_nothing_found_is_0():
    outside, inside = np.zeros((1, 3), int), np.array([[1, 2, 0]])
    found = metrics.span_f1(outside, outside, TAGS)
    assert np.isnan([found.f1, found.precision, found.recall]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert reference.f1_score(words(outside), words(outside)) == 0
    found = metrics.span_f1(inside, outside, TAGS)
    assert (found.f1, found.recall) == (0, 0) and np.isnan(found.precision)
    assert found.counts.support.tolist() == [1, 0] and np.isnan(found.counts.f1[1])
