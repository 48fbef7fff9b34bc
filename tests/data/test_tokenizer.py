"""Texts of a data set as models read them."""

import json
import warnings
from concurrent import futures

import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data.text import decoded, stored
from mmkd_jax.data.tokenizer import Tokenizer, optional
from mmkd_jax.errors import UserError

TEXTS = ["A good day.", "a BAD day!", "Señor, a good cat", "señor cat sat"]
ROWS = data.from_columns({"text": stored(TEXTS, "S30"), "label": np.arange(4, dtype=np.int32)}, "four")


def test_words_are_learned_from_the_most_frequent_on():
    words = data.train_tokenizer(TEXTS, size=100, length=8)
    assert words.vocabulary == 7  # padding, other, and those seen twice
    found = words(["a good cat, senor", "sat day"])
    assert found["text.ids"].tolist() == [[2, 5, 3, 1, 6], [1, 4, 0, 0, 0]]
    assert found["text.mask"].tolist() == [[True] * 5, [True, True, False, False, False]]
    # neither the order of the texts nor their type matters, and the size is a limit
    again = data.train_tokenizer([t.encode() for t in reversed(TEXTS)], size=100, length=8)
    assert again.fingerprint == words.fingerprint
    few = data.train_tokenizer(TEXTS, size=4, length=8)
    assert few.vocabulary == 4 and few(["a good cat, senor"])["text.ids"].tolist() == [[2, 1, 3, 1, 1]]
    assert few.fingerprint != words.fingerprint
    assert data.train_tokenizer(TEXTS, 100, 8, "words")(TEXTS).keys() == {"words.ids", "words.mask"}


def test_what_is_learned_is_a_published_tokenizer_too(tmp_path):
    words = data.train_tokenizer(TEXTS, size=100, length=8)
    for name, content in words.files.items():
        (tmp_path / name).write_bytes(content)
    again = Tokenizer(tmp_path, 8, 0)
    np.testing.assert_array_equal(again(TEXTS)["text.ids"], words(TEXTS)["text.ids"])
    assert again.fingerprint == words.fingerprint


def test_how_texts_are_cut_is_part_of_the_fingerprint(tmp_path):
    words, found = data.train_tokenizer(TEXTS, size=100, length=8), []
    for fields in ({}, {"truncation_side": "left"}, {"split_special_tokens": True}):
        for name, content in (words.files | {"tokenizer_config.json": json.dumps(fields).encode()}).items():
            (tmp_path / name).write_bytes(content)
        found.append(Tokenizer(tmp_path, 8, 0).fingerprint)
    assert found[0] == words.fingerprint and found[0] != found[1] != found[2] != found[0]


def test_two_models_read_one_text_by_tokenizers_of_their_own():
    mine, other = data.train_tokenizer(TEXTS, 100, 8), data.train_tokenizer(TEXTS, 4, 8, "words")
    rows = data.tokenize(ROWS, {mine: 6, other: 3})
    assert {k: (s.shape, s.dtype) for k, s in rows.spec.items()} == {
        "example_id": ((), np.int32),
        "label": ((), np.int32),
        "text.ids": ((6,), np.int32),
        "text.mask": ((6,), np.bool_),
        "words.ids": ((3,), np.int32),
        "words.mask": ((3,), np.bool_),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the lengths were asked for
        columns = rows.columns
    assert {k: (x.shape[1:], x.dtype) for k, x in columns.items()} == {
        k: (s.shape, s.dtype) for k, s in rows.spec.items()
    }
    np.testing.assert_array_equal(columns["text.ids"], mine(TEXTS, length=6, pad=True)["text.ids"])
    with pytest.warns(UserWarning, match="3 of 4"):
        np.testing.assert_array_equal(columns["words.ids"], other(TEXTS, length=3)["words.ids"])


def test_both_readers_give_the_same_ids():
    mine = data.train_tokenizer(TEXTS, 100, 8)
    rows = data.tokenize(ROWS, {mine: 8})
    readers = [data.InMemory(rows, 2), data.GrainLoader(rows, 2, threads=2)]
    for one, two in zip(*([next(r.batches(seed=1)) for _ in range(4)] for r in readers), strict=True):
        assert one.keys() == two.keys() == readers[0].spec.keys()
        for k in one:
            np.testing.assert_array_equal(one[k], two[k])
        expected = mine([TEXTS[i] for i in one["example_id"]], length=8, pad=True)
        np.testing.assert_array_equal(one["text.ids"], expected["text.ids"])


def test_the_fingerprint_names_what_the_ids_depend_on():
    mine = data.train_tokenizer(TEXTS, 100, 8)
    known = data.tokenize(ROWS, {mine: 6}).fingerprint
    mine(TEXTS, length=8)  # what it was asked before is of no account
    assert data.tokenize(ROWS, {mine: 6}).fingerprint == known
    assert data.tokenize(ROWS, {data.train_tokenizer(TEXTS, 100, 9): 6}).fingerprint == known
    for other in ({mine: 7}, {data.train_tokenizer(TEXTS, 4, 8): 6}, {data.train_tokenizer(TEXTS, 100, 8, "words"): 6}):
        assert data.tokenize(ROWS, other).fingerprint != known


def test_texts_are_refused_in_a_batch_and_left_out_on_request():
    for reader in (data.InMemory(ROWS, 2), data.GrainLoader(ROWS, 2)):
        with pytest.raises(UserError, match="column 'text' contains text.*data.tokenize"):
            _ = reader.spec
    rows = data.tokenize(ROWS, {})
    assert set(rows.spec) == set(rows.columns) == {"label", "example_id"}


def test_bad_requests_are_named(tmp_path):
    mine = data.train_tokenizer(TEXTS, 100, 8)
    for said, lengths, column in [
        ("no text column 'label'; available: text", {mine: 4}, "label"),
        ("length=9: this model supports at most 8", {mine: 9}, "text"),
        ("two columns are named 'text.ids'", {mine: 4, data.train_tokenizer(TEXTS, 9, 8): 4}, "text"),
        ("has no tokenizer.json", {optional(tmp_path, 8, 0): 4}, "text"),
    ]:
        with pytest.raises(UserError, match=said):
            data.tokenize(ROWS, lengths, column)
    with pytest.raises(UserError, match="a text of 7 bytes does not fit in S6"):
        stored(["señor!"], "S6")


def test_what_is_no_text_is_named_by_its_row():
    for read in (data.train_tokenizer(TEXTS, 100, 8), lambda texts: data.train_tokenizer(texts, 100, 8)):
        with pytest.raises(UserError, match=r"text: row 1 is b'\\xff'; expected a string, or UTF-8 bytes"):
            read(["a day", b"\xff"])
    for wrong in (None, 3, float("nan")):  # the type checks of the tests would be first, by chance
        with pytest.raises(UserError, match=f"text: row 1 is {wrong}; expected a string"):
            list(decoded(["a day", wrong], "text"))


def test_one_tokenizer_cuts_at_several_lengths_at_a_time():
    mine, texts = data.train_tokenizer(TEXTS, 100, 8), TEXTS * 50
    expected = {n: mine(texts, length=n, warn=False)["text.ids"] for n in (2, 3, 4)}
    with futures.ThreadPoolExecutor(3) as pool:
        told = [(n, pool.submit(mine, texts, length=n, warn=False)) for n in (2, 3, 4) * 20]
        assert all(np.array_equal(t.result()["text.ids"], expected[n]) for n, t in told)


def test_new_bool_columns_choose_rows():
    few = ROWS.with_columns(labelled=np.array([True, False, False, True])).where("labelled")
    assert few.size == 2 and few.columns["label"].tolist() == [0, 3]
    assert data.tokenize(few, {data.train_tokenizer(TEXTS, 100, 8): 8}).columns["text.mask"].sum(1).tolist() == [4, 3]
