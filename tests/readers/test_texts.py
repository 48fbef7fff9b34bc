"""Vocabularies, tokenizer files and texts: the ids of their authors, or refused in one line."""

import json
import os

import pytest

from mmkd_jax.child_process import Limits
from mmkd_jax.data import text
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from tests.readers import texts, vocabularies


def compare(folder, case, limits=None):
    if isinstance(case.expected, str):
        with pytest.raises(UserError, match=case.expected) as error:
            Tokenizer(folder, 8, 0, limits=limits)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)
    else:
        found = Tokenizer(folder, 8, 0, limits=limits)([texts.TEXT])["text.ids"][0].tolist()
        assert found == case.expected


@pytest.mark.parametrize("case", texts.VOCABULARIES, ids=lambda c: c.variant)
def test_a_vocabulary(case, tmp_path):
    case.make(tmp_path / "vocab.txt")
    compare(tmp_path, case)


@pytest.mark.parametrize("case", texts.SETTINGS, ids=lambda c: c.variant)
def test_tokenizer_settings(case, tmp_path):
    (tmp_path / "vocab.txt").write_text(texts.PLAIN)
    case.make(tmp_path / "tokenizer_config.json")
    compare(tmp_path, case)


@pytest.mark.parametrize("case", texts.TOKENIZERS, ids=lambda c: c.variant)
def test_a_tokenizer(case, tmp_path):
    case.make(tmp_path / "tokenizer.json")
    compare(tmp_path, case, Limits())


def test_a_tokenizer_that_exceeds_the_limits(tmp_path):
    vocabulary = {f"word {i}": i for i in range(200_000)} | {"[UNK]": 200_000}
    texts.as_json(texts.tokenizer(model={"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}))(
        tmp_path / "tokenizer.json"
    )
    with pytest.raises(UserError, match="tokenizer.json takes longer than 0.01 s to read: do not use it"):
        Tokenizer(tmp_path, 8, 0, limits=Limits(seconds=0.01))
    with pytest.raises(UserError, match="tokenizer.json needs more than 0.03125 GiB to read: do not use it"):
        Tokenizer(tmp_path, 8, 0, limits=Limits(max_bytes=2**25))


def test_a_regular_expression_that_gives_up(tmp_path):
    """A text on which the tokenizer of a file that was not probed panics: one line, not the end of the process."""
    texts.as_json(texts.tokenizer(pre_tokenizer=texts.by("(a+)+$")))(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="text: the tokenizer cannot encode a text .*retry-limit"):
        Tokenizer(tmp_path, 8, 0, limits=None)(["a" * 99 + "!"])


@pytest.mark.parametrize(("variant", "given_text", "expected", "shown"), texts.TEXTS, ids=lambda x: str(x)[:30])
def test_a_text(tmp_path, variant, given_text, expected, shown):
    (tmp_path / "vocab.txt").write_text(texts.PLAIN)
    tokenizer = Tokenizer(tmp_path, 8, 0)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            tokenizer([given_text])
    else:
        assert tokenizer([given_text])["text.ids"][0].tolist() == expected


def test_characters_and_stored_texts():
    assert text.characters([b"\xef\xbb\xbfab"], 3)[0].tolist() == [[2, 3, 0]]
    with pytest.raises(UserError, match="row 1 is b'\\\\xff'; expected a string, or UTF-8 bytes"):
        text.characters([b"a", b"\xff"], 3)
    for function in (lambda x: text.stored(x, "S4"), lambda x: text.characters(x, 4)):
        with pytest.raises(UserError, match="texts: row 1 has NUL characters"):
            function(["a", "b\0"])
        with pytest.raises(UserError, match="texts: row 0 is '.ud800'; expected a string, or UTF-8"):
            function(["\ud800"])


def test_no_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(UserError, match="vocab.txt is not a regular file"):
        Tokenizer(tmp_path, 8, 0)


def test_chinese_characters_are_words_unless_the_settings_say_otherwise(tmp_path):
    (tmp_path / "vocab.txt").write_text(texts.PLAIN + "b\n##b\n\u4e2d\n", encoding="utf-8")
    split, whole = [2, 5, 11, 9, 3], [2, 1, 3]
    assert Tokenizer(tmp_path, 8, 0)(["a\u4e2db"])["text.ids"][0].tolist() == split
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}')
    assert Tokenizer(tmp_path, 8, 0)(["a\u4e2db"])["text.ids"][0].tolist() == whole


def test_ids_beyond_the_embeddings(tmp_path):
    (tmp_path / "vocab.txt").write_text(texts.PLAIN)
    assert Tokenizer(tmp_path, 8, 0, rows=9).vocabulary == 9
    assert Tokenizer(tmp_path, 8, 0, rows=9)(["[MASK]"])["text.ids"].tolist() == [[2, 4, 3]]
    for rows, padding in ((8, 0), (9, 9)):
        with pytest.raises(UserError, match=f"has ids up to {max(8, padding)}, but the model has {rows} "):
            Tokenizer(tmp_path, 8, padding, rows=rows)


@pytest.mark.parametrize("variant", vocabularies.REFUSED)
def test_a_folder_that_contradicts_itself(variant, tmp_path):
    files, said = vocabularies.REFUSED[variant]
    vocabularies.write(tmp_path, files)
    with pytest.raises(UserError, match=said) as error:
        Tokenizer(tmp_path, 8, 0)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variant", "text", "ids"),
    [
        ("other tokens", "a Q <mask> day", [5, 10, 7, 9, 12, 6]),
        ("other tokens in the older file", "a Q <mask> day", [5, 10, 7, 9, 12, 6]),
        ("added tokens in the older file", "day[NEW]good <TWO>", [2, 12, 27, 11, 28, 3]),
        ("added tokens", "day[NEW]good <TWO>", [2, 12, 27, 11, 28, 3]),
        ("further special tokens", "[X]day [NEW]", [5, 19, 12, 27, 3]),
        ("truncation on the left", "a a a a a good day !", [2, 10, 10, 10, 11, 12, 23, 3]),
        ("names of special tokens as text", "[CLS]", [2, 24, 26, 25, 3]),
    ],
)
def test_what_lies_beside_a_vocabulary(variant, text, ids, tmp_path):
    """All variants are compared with transformers in tests/parity."""
    vocabularies.write(tmp_path, vocabularies.READ[variant])
    tokenizer = Tokenizer(tmp_path, 8, 0)
    assert tokenizer([text], warn=False)["text.ids"][0].tolist() == ids
    assert tokenizer.padding == (8 if variant.startswith("other") else 0)


def test_a_mask_token_without_an_embedding_is_no_token(tmp_path):
    vocabularies.write(tmp_path, {"vocab.txt": [*(w for w in vocabularies.WORDS if w != "[MASK]"), "mask"]})
    for rows, ids in ((28, [2, 27, 3]), (27, [2, 23, 26, 24, 3])):
        assert Tokenizer(tmp_path, 8, 0, rows=rows)(["[MASK]"])["text.ids"].tolist() == [ids]
    vocabularies.write(tmp_path, {"tokenizer_config.json": {"mask_token": "[NEW]"}})
    with pytest.raises(UserError, match="has ids up to 27, but the model has 27 token embeddings"):
        Tokenizer(tmp_path, 8, 0, rows=27)


@pytest.mark.parametrize(
    ("fields", "text", "ids"),
    [
        ({}, "A [NEW]", [2, 10, 24, 1, 25, 3]),
        ({"do_lower_case": False}, "A", [2, 16, 3]),
        ({"cls_token": "<s>"}, "A", [5, 10, 3]),
        ({"extra_special_tokens": ["[NEW]"]}, "A [NEW]", [2, 10, 27, 3]),
        ({"added_tokens_decoder": {"27": vocabularies.plain("[NEW]")}}, "A [NEW]", [2, 10, 27, 3]),
        (
            {"added_tokens_decoder": {"29": vocabularies.plain("[NEW]")}},
            "A [NEW]",
            "has id 29 in tokenizer_config.json",
        ),
    ],
)
def test_settings_beside_a_tokenizer_json(fields, text, ids, tmp_path):
    """Where they contradict it, transformers follows them, as tests/parity sees."""
    vocabularies.write(tmp_path, {})
    rules = Tokenizer(tmp_path, 8, 0).rules
    (tmp_path / "tokenizer.json").write_text(rules)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    if isinstance(ids, str):
        with pytest.raises(UserError, match=ids):
            Tokenizer(tmp_path, 8, 0, limits=None)
        return
    tokenizer = Tokenizer(tmp_path, 8, 0, limits=None)
    assert tokenizer([text])["text.ids"][0].tolist() == ids
    assert (tokenizer.rules == rules) == (not fields)
    if "extra_special_tokens" in fields:  # no token, where the model has no embedding for it
        assert Tokenizer(tmp_path, 8, 0, rows=27, limits=None).rules == rules
