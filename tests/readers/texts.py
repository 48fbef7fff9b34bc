"""Vocabularies and texts in the encodings and with the line ends that people have."""

import json
from typing import Any

from tests.readers.case import Case
from tests.readers.pictures import written

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "day", "né"]
PLAIN = "\n".join(WORDS) + "\n"
TEXT = "a good day"
IDS = [2, 5, 6, 7, 3]


def vocabulary(text, encoding="utf-8"):
    return written(text.encode(encoding))


# read as vocab.txt
VOCABULARIES = [
    Case("vocab.txt", "UTF-8", vocabulary(PLAIN), IDS),
    Case("vocab.txt", "no line end at the end", vocabulary(PLAIN.rstrip("\n")), IDS),
    Case("vocab.txt", "Windows line ends", vocabulary(PLAIN.replace("\n", "\r\n")), IDS),
    Case("vocab.txt", "byte order mark", vocabulary(PLAIN, "utf-8-sig"), IDS, "removed"),
    *(
        Case("vocab.txt", f"a token with {name}", vocabulary(PLAIN.replace("[MASK]", f"x{c}y")), IDS, "one token")
        for name, c in (("U+2028", "\u2028"), ("U+0085", "\x85"), ("a form feed", "\f"), ("a carriage return", "\r"))
    ),
    Case("vocab.txt", "blanks at the ends of lines", vocabulary(PLAIN.replace("\n", "  \n")), IDS, "removed"),
    Case("vocab.txt", "an empty line", vocabulary(PLAIN.replace("[MASK]", "")), IDS, "an empty token"),
    Case(
        "vocab.txt",
        "a token twice",
        vocabulary(PLAIN.replace("[MASK]", "day")),
        "has 'day' in lines 5 and 8: fetch it again",
        "refused",
    ),
    Case("vocab.txt", "Latin-1", vocabulary(PLAIN, "latin-1"), "vocab.txt is not UTF-8 .* at byte 43", "refused"),
    Case("vocab.txt", "UTF-16", vocabulary(PLAIN, "utf-16"), "vocab.txt is not UTF-8", "refused"),
    Case("vocab.txt", "an empty file", written(b""), "tokenizer in .* is damaged", "refused"),
    Case("vocab.txt", "a web page", written(b"<!DOCTYPE html>"), "tokenizer in .* is damaged", "refused"),
]

# a text in a column of bytes or strings
TEXTS: list[tuple[str, Any, list[int] | str, str]] = [
    ("a string", TEXT, IDS, "read"),
    ("UTF-8 bytes", TEXT.encode(), IDS, "read"),
    ("UTF-8 bytes with a byte order mark", TEXT.encode("utf-8-sig"), IDS, "removed"),
    ("Windows line ends", b"a good\r\nday", IDS, "read"),
    ("Latin-1 bytes", "né".encode("latin-1"), "row 0 is b'n\\\\xe9'; expected a string, or UTF-8 bytes", "refused"),
    ("UTF-16 bytes", "né".encode("utf-16"), "row 0 is .*; expected a string, or UTF-8 bytes", "refused"),
    ("UTF-16 bytes without a mark", TEXT.encode("utf-16-le"), "row 0 has NUL characters, 'a.x00 .*: decode",
     "refused"),
    ("NUL characters", "a\0good", "row 0 has NUL characters, 'a.x00good': decode it, or remove them", "refused"),
]  # fmt: skip


def deep(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


# read as tokenizer_config.json beside a good vocab.txt
SETTINGS = [
    Case("tokenizer_config.json", "of a Japanese tokenizer",
         written(b'{"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}'),
         "vocab.txt of a tokenizer with word_tokenizer_type='mecab', tokenizer_class=", "refused"),
    Case("tokenizer_config.json", "do_basic_tokenize is false", written(b'{"do_basic_tokenize": false}'),
         "vocab.txt of a tokenizer with do_basic_tokenize=False is not supported", "refused"),
    Case("tokenizer_config.json", "byte order mark", written(b'\xef\xbb\xbf{"do_lower_case": true}'), IDS),
    Case("tokenizer_config.json", "a huge model_max_length", written(b'{"model_max_length": 1e30}'), IDS),
    *(
        Case("tokenizer_config.json", f"{field} is {value}", written(b'{"%s": %s}' % (field.encode(), value.encode())),
             f"tokenizer_config.json: {field} is ", "refused")
        for field, value in (("model_max_length", "NaN"), ("model_max_length", "-3"), ("model_max_length", '"512"'),
                             ("do_lower_case", '"false"'), ("strip_accents", "1"), ("pad_token", "[]"),
                             ("padding_side", '"top"'))
    ),
    Case("tokenizer_config.json", "nested 10,000 deep", written(deep(10_000)), "is not valid JSON", "refused"),
    Case("tokenizer_config.json", "an integer of 5,000 digits", written(b'{"a": ' + b"9" * 5_000 + b"}"),
         "is not valid JSON", "refused"),
    Case("tokenizer_config.json", "a list", written(b"[]"), "contains a list; expected a JSON object", "refused"),
    Case("tokenizer_config.json", "cut off", written(b'{"model_max'), "is not valid JSON", "refused"),
]  # fmt: skip


def tokenizer(**changes):
    """A tokenizer.json that splits texts by a regular expression."""
    split = {"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Removed", "invert": False}
    special = [
        {"id": i, "content": w, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i, w in enumerate(WORDS[:5])
    ]  # fmt: skip
    model = {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "[UNK]"}
    fields = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None}
    fields |= {"pre_tokenizer": split, "post_processor": None, "decoder": None, "model": model}
    return {**fields, **changes}


def by(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}


def as_json(value):
    return written(json.dumps(value).encode())


# read as tokenizer.json
TOKENIZERS = [
    Case("tokenizer.json", "words", as_json(tokenizer()), IDS[1:-1]),
    Case("tokenizer.json", "padding to 10¹² tokens", as_json(tokenizer(padding={
        "strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]"})), IDS[1:-1], "not padded"),
    Case("tokenizer.json", "a regular expression that takes for ever", as_json(tokenizer(pre_tokenizer=by("(a+)+$"))),
         "is damaged .Onig: Regex search error: retry-limit-in-match over", "refused"),
    Case("tokenizer.json", "a broken regular expression", as_json(tokenizer(pre_tokenizer=by("("))),
         "tokenizer.json is damaged", "refused"),
    Case("tokenizer.json", "nested 10,000 deep", written(deep(10_000)), "tokenizer.json is damaged", "refused"),
    Case("tokenizer.json", "an unknown model", as_json(tokenizer(model={"type": "Oracle"})),
         "tokenizer.json is damaged", "refused"),
    Case("tokenizer.json", "ids of 2⁶⁴", as_json(tokenizer(model={"type": "WordLevel", "vocab": {"a": 2**64},
         "unk_token": "a"})), "tokenizer.json is damaged", "refused"),
    Case("tokenizer.json", "not UTF-8", written(b"\xff{}"), "tokenizer.json is damaged", "refused"),
    Case("tokenizer.json", "an empty file", written(b""), "tokenizer.json is damaged", "refused"),
]  # fmt: skip
