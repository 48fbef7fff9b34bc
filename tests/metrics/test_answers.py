"""Exact match and token F1 of answers."""

import pytest

from mmkd_jax import metrics


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The  Seine.", ["seine"], 1, 1),
        ("a river in Paris", ["the river Seine", "river"], 0, 2 / 4),
        ("", [""], 1, 1),
        ("", ["Seine"], 0, 0),
        ("Seine", [""], 0, 0),
        ("the", ["a"], 1, 1),  # both normalize to nothing
        ("go go go", ["go go"], 0, 4 / 5),  # bags, not sets
        ("U.S.A.", ["usa"], 1, 1),
        ("theater", ["ater"], 0, 0),  # articles are words
    ],
)
def test_english_answers(prediction, answers, exact, f1):
    assert metrics.exact_match([prediction], [answers]).value == exact
    assert metrics.token_f1([prediction], [answers]).value == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("塞纳河。", ["塞纳河"], 1, 1),
        ("塞 纳 河", ["塞纳河"], 1, 1),
        ("河", ["塞纳河"], 0, 2 / 4),
        ("在1889年", ["1889年"], 0, 4 / 5),
        ("𠮷野家", ["野家"], 0, 4 / 5),
        ("“Paris”", ["paris"], 1, 1),
    ],
)
def test_chinese_answers_by_character(prediction, answers, exact, f1):
    assert metrics.exact_match([prediction], [answers], "zh").value == exact
    assert metrics.token_f1([prediction], [answers], "zh").value == pytest.approx(f1)


def test_chinese_answers_as_english_words_match_whole_or_not_at_all():
    assert metrics.token_f1(["河"], [["塞纳河"]]).value == 0
