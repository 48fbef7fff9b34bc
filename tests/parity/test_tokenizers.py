"""Token ids as transformers has them, of folders without tokenizer.json."""

import json

import pytest
import transformers
from transformers import AutoTokenizer

from mmkd_jax.data.other_tokenizers import PythonTokenizer
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from tests.readers import pieces, vocabularies
from tests.readers.test_chat import TALK, TEMPLATE

LENGTH = 8


def compare(folder, texts):
    """Compare single texts and a pair, truncated, and return both tokenizers."""
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer(folder, LENGTH, 0, types=True)
    for text in texts:
        expected = theirs(text, truncation=True, max_length=LENGTH)["input_ids"]
        assert ours([text], warn=False)["text.ids"][0].tolist() == expected, text
    expected = theirs(texts[0], texts[-1], truncation=True, max_length=LENGTH, return_token_type_ids=True)
    found = ours(texts[:1], texts[-1:], warn=False)
    assert found["text.ids"][0].tolist() == expected["input_ids"]
    assert found["text.types"][0].tolist() == expected["token_type_ids"]
    return theirs, ours


@pytest.mark.parametrize("variant", vocabularies.READ)
def test_ids_of_a_vocabulary(variant, tmp_path):
    vocabularies.write(tmp_path, vocabularies.READ[variant])
    compare(tmp_path, vocabularies.TEXTS)


@pytest.mark.parametrize("kind", pieces.FOLDERS)
def test_ids_of_tokenizers_that_transformers_converts(kind, tmp_path):
    made = pieces.FOLDERS[kind]
    pieces.write(tmp_path, made)
    theirs, ours = compare(tmp_path, pieces.TEXTS)
    assert isinstance(ours.tokenizer, PythonTokenizer) == made.in_python
    assert ours.padding == (theirs.pad_token_id or 0)


@pytest.mark.parametrize("kind", ["XLM-R", "RoBERTa", "LLaMA", "CLIP", "SigLIP"])
def test_ids_of_conversations(kind, tmp_path):
    pieces.write(tmp_path, pieces.FOLDERS[kind])
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE.replace("cls_token", "bos_token"))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), Tokenizer(tmp_path, 200, 0)
    talks = [[{"role": "user", "content": t}, {"role": "assistant", "content": t}] for t in pieces.TEXTS]
    located = theirs.is_fast and kind != "LLaMA"
    if not located:  # its small vocabulary lacks a letter of "user"
        with pytest.raises(UserError, match="in Python, does not locate its tokens|drops characters of conversation 0"):
            ours.chat(talks, answers=True)
    found = ours.chat([*talks, TALK], answers=located)
    for i, talk in enumerate([*talks, TALK]):
        how = {"return_dict": True, "return_assistant_tokens_mask": located}
        expected = theirs.apply_chat_template(talk, **how)
        assert found["text.ids"][i][found["text.mask"][i]].tolist() == expected["input_ids"]
        if located and talk is TALK:  # transformers has the rest of the texts as well where an answer ends in a blank
            n = len(expected["input_ids"])
            assert found["text.answers"][i][:n].tolist() == [bool(x) for x in expected["assistant_masks"]]


def test_a_tokenizer_in_python_lowercases_as_sentence_transformers_asks(tmp_path):
    pieces.write(tmp_path, next(made for made in pieces.FOLDERS.values() if made.in_python))
    lower = Tokenizer(tmp_path, LENGTH, 0, lowercase=True)
    plain = Tokenizer(tmp_path, LENGTH, 0)
    texts = [text.upper() for text in pieces.TEXTS]
    expected = plain([text.lower() for text in texts], warn=False)["text.ids"]
    assert lower(texts, warn=False)["text.ids"].tolist() == expected.tolist()
    assert lower.fingerprint != plain.fingerprint


FIELDS: list[dict[str, object]] = [
    {}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}, {"cls_token": "<s>"},
    {"mask_token": "<mask>"}, {"extra_special_tokens": ["[NEW]"]},
    {"added_tokens_decoder": {"27": vocabularies.plain("[NEW]")}},
    {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False, "cls_token": "<s>"},
]  # fmt: skip


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_settings_that_contradict_tokenizer_json(fields, tmp_path):
    vocabularies.write(tmp_path, {})
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    compare(tmp_path, [*vocabularies.TEXTS, "A Day <s>"])


@pytest.mark.parametrize("fields", [{}, {"add_prefix_space": True}, {"mask_token": "[MASK]"}], ids=str)
def test_settings_that_contradict_tokenizer_json_of_roberta(fields, tmp_path):
    pieces.write(tmp_path, pieces.FOLDERS["RoBERTa"])
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    compare(tmp_path, pieces.TEXTS)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<mask>", "a", "good", "Good", "é", "e"]
CONTRADICTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "ElectraTokenizerFast": ({"do_lower_case": False}, {"strip_accents": False}, {"cls_token": "<s>"}),
    "MPNetTokenizerFast": ({"do_lower_case": False}, {"tokenize_chinese_chars": False}),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_settings_that_contradict_tokenizer_json_of_others(name, tmp_path):
    kind = transformers.MPNetTokenizer if name.startswith("MPNet") else transformers.BertTokenizer
    kind(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    saved = json.loads(path.read_text()) | {"tokenizer_class": name}
    for fields in CONTRADICTIONS[name]:
        path.write_text(json.dumps(saved | fields))
        compare(tmp_path, ["Good é a", "good 好 E"])


@pytest.mark.parametrize("name", ["AlbertTokenizer", "DebertaV2Tokenizer"])
def test_settings_that_releases_read_differently_are_refused(name, tmp_path):
    scores = [
        (w, -float(i)) for i, w in enumerate(["<pad>", "<unk>", *WORDS[2:5], "\u2581", "\u2581a", "\u2581good", "<s>"])
    ]
    getattr(transformers, name)(vocab=scores).save_pretrained(tmp_path)
    compare(tmp_path, ["Good a"])
    path = tmp_path / "tokenizer_config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"add_prefix_space": True}))
    compare(tmp_path, ["Good a"])
    for key, value in {"do_lower_case": not saved["do_lower_case"], "add_prefix_space": False}.items():
        path.write_text(json.dumps(saved | {key: value}))
        with pytest.raises(UserError, match=f"has {key}=.*, but tokenizer.json is of {key}="):
            Tokenizer(tmp_path, LENGTH, 0)
