"""Model folders with a vocab.txt, and the JSON files that people have beside it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

WORDS = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<mask>",
        "a",
        "good",
        "day",
        "né",
    ),
    *("ne", "##y", "A", "Good", "\u4e2d", "[X]", "x", "b", "##b", "!", "[", "]", "cls"),
]
NEXT = len(WORDS)
TEXTS = ["a good day", "A Good né day!", "[MASK] a [X]day <mask> [NEW] day [new] Q", "a\u4e2db [CLS] b <s> </s> [SEP]"]
TEXTS += ["", "  day[NEW]good <TWO> a", "b b b b b b b b b"]
OTHERS = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


def token(content: str, **flags: Any) -> dict[str, Any]:
    """A token with its flags."""
    return {"content": content, **dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False), **flags}


def plain(content: str, **flags: Any) -> dict[str, Any]:
    """A token of added_tokens_decoder."""
    return token(content, **{"special": False, "normalized": True} | flags)


def typed(content: str, **flags: Any) -> dict[str, Any]:
    """A token as transformers writes it in tokenizer_config.json."""
    return {"__type": "AddedToken", **token(content, **flags)}


# what the folder has -> file -> its JSON, or the words of vocab.txt
READ: dict[str, Mapping[str, Any]] = {
    "nothing else": {},
    "other tokens": {CONFIG: OTHERS},
    "other tokens in the older file": {MAP: {**OTHERS, "mask_token": token("<mask>", lstrip=True)}},
    "tokens in both": {MAP: {"cls_token": "<s>"}, CONFIG: {"cls_token": "</s>", "sep_token": "</s>"}},
    "tokens in an older file that is out of date": {
        MAP: {"cls_token": "<s>"},
        CONFIG: {"sep_token": "</s>", "added_tokens_decoder": {"3": plain("[SEP]", special=True)}},
    },
    "added tokens in the older file": {ADDED: {"[NEW]": NEXT, "<TWO>": NEXT + 1}},
    "an added mask token": {ADDED: {"[NEW]": NEXT}, MAP: {"mask_token": "[NEW]"}},
    "added tokens": {
        CONFIG: {
            "added_tokens_decoder": {
                "0": token("[PAD]", special=True),
                "4": token("[MASK]", special=True, lstrip=True),
                str(NEXT): plain("[NEW]"),
                str(NEXT + 1): plain("<TWO>", single_word=True),
            }
        }
    },
    "a word as an added token": {CONFIG: {"added_tokens_decoder": {"12": plain("day")}}},
    "further special tokens": {CONFIG: {"cls_token": typed("<s>"), "additional_special_tokens": ["[X]", "[NEW]"]}},
    "further special tokens with flags": {CONFIG: {"extra_special_tokens": ["[NEW]", typed("<TWO>", lstrip=True)]}},
    "further special tokens by name": {
        CONFIG: {"extra_special_tokens": {"image_token": "[NEW]"}, "boi_token": "<TWO>", "eoi_token": typed("[X]")}
    },
    "further special tokens in the older file": {MAP: {"additional_special_tokens": ["[NEW]"]}},
    "case": {CONFIG: {"do_lower_case": False}},
    "case, without accents": {CONFIG: {"do_lower_case": False, "strip_accents": True}},
    "DistilBERT with accents": {CONFIG: {"tokenizer_class": "DistilBertTokenizer", "strip_accents": False}},
    "whole Chinese words": {CONFIG: {"tokenize_chinese_chars": False, "bos_token": "<s>", "eos_token": "</s>"}},
    "truncation on the left": {CONFIG: {"truncation_side": "left"}},
    "names of special tokens as text": {CONFIG: {"split_special_tokens": True}},
    "a mask token of null": {CONFIG: {"mask_token": None}},
    "no mask token in vocab.txt": {"vocab.txt": [w for w in WORDS if w != "[MASK]"]},
    "a first token that is added": {"vocab.txt": [w for w in WORDS if w != "[CLS]"], ADDED: {"[CLS]": NEXT - 1}},
}
REFUSED: dict[str, tuple[Mapping[str, Any], str]] = {
    "an added token with another id": ({ADDED: {"[NEW]": NEXT + 5}}, "added token '.NEW.' has id 32, but 27 by its"),
    "no first token": ({"vocab.txt": [w for w in WORDS if w != "[CLS]"]}, "cls_token '.CLS.' is not in vocab.txt"),
    "an unknown token of null": ({CONFIG: {"unk_token": None}}, "unk_token null is not in vocab.txt"),
    "an added token without an id": ({ADDED: {"[NEW]": "a"}}, "added_tokens.json has an added token with id 'a'"),
    "an added token that is a number": ({CONFIG: {"added_tokens_decoder": {"3": 3}}}, "decoder is 3; expected a token"),
    "added tokens as a list": ({CONFIG: {"added_tokens_decoder": []}}, "added_tokens_decoder is ..; expected an o"),
    "a token that is a list": ({MAP: {"cls_token": ["<s>"]}}, "tokens_map.json: cls_token is .*; expected a token"),
    "further tokens as a word": ({CONFIG: {"extra_special_tokens": "[NEW]"}}, "special_tokens is .*; expected a list"),
    "truncation in the middle": ({CONFIG: {"truncation_side": "middle"}}, "truncation_side is .middle.; expected "),
    "a class that is a number": ({CONFIG: {"tokenizer_class": 3}}, "tokenizer_class is 3; expected a name"),
}  # fmt: skip


def write(folder: pathlib.Path, files: Mapping[str, Any], model: str = "bert") -> None:
    """Write a folder."""
    (folder / "config.json").write_text(json.dumps({"model_type": model}))
    for name, content in {"vocab.txt": WORDS, **files}.items():
        text = "\n".join(content) + "\n" if name == "vocab.txt" else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
