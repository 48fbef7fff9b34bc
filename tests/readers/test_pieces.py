"""Tokenizers that need transformers have its ids, and no other run imports it."""

import json
import os
import subprocess
import sys

import pytest

from mmkd_jax.data.processor_file import FILE
from mmkd_jax.data.sentencepiece_file import is_whole
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from tests.readers import pieces, texts

CODE = """
import pathlib, sys, mmkd_jax
import numpy as np
from mmkd_jax.data import images
from mmkd_jax.data.tokenizer import Tokenizer
for kind in ("words", "tokenizer", "ours", "pairs", "chat", "theirs"):
    folder = pathlib.Path(sys.argv[1]) / kind
    try:
        if kind in ("ours", "theirs"):
            images.read(folder, {})([np.zeros((9, 9, 3), np.uint8)])
        else:
            tokenizer = Tokenizer(folder, 8, 0)
            tokenizer(["a good day"])
        if kind == "chat":
            tokenizer.chat([[{"role": "user", "content": "a good day"}]])
    except mmkd_jax.UserError as error:
        print(error)
    log = pathlib.Path(sys.argv[1]) / "log"
    print(kind, len(log.read_text()) if log.exists() else 0, {"transformers", "sentencepiece"} & set(sys.modules))
"""


def test_transformers_is_imported_only_for_what_needs_it(tmp_path):
    """In its place is a package that counts its imports, by this process and its children."""
    for kind in ("fake/transformers", "words", "tokenizer", "ours", "pairs", "chat", "theirs"):
        (tmp_path / kind).mkdir(parents=True)
    counts = f"open({str(tmp_path / 'log')!r}, 'a').write('x')\nraise ImportError('counted')"
    (tmp_path / "fake" / "transformers" / "__init__.py").write_text(counts)
    (tmp_path / "words" / "vocab.txt").write_text(texts.PLAIN)
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(texts.tokenizer()))
    (tmp_path / "chat" / "tokenizer.json").write_text(json.dumps(texts.tokenizer()))
    (tmp_path / "chat" / "chat_template.jinja").write_text("{{ messages }}")
    for kind, name in (("ours", "ViT"), ("theirs", "Levit")):
        (tmp_path / kind / FILE).write_text(json.dumps({"image_processor_type": f"{name}ImageProcessor"}))
    pieces.write(tmp_path / "pairs", pieces.FOLDERS["RoBERTa"])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "fake"), os.getcwd()])}
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:3] == ["words 0 set()", "tokenizer 0 set()", "ours 0 set()"]
    assert lines[4::2] == ["pairs 1 set()", "chat 2 set()", "theirs 3 set()"]
    assert "transformers cannot read it (ImportError: counted)" in lines[3]
    assert "cannot be applied (ImportError: counted)" in lines[5]
    assert "cannot be used with transformers (ImportError: counted)" in lines[7]


def test_a_sentencepiece_model_alone(tmp_path):
    """All kinds are compared with transformers in tests/parity."""
    pieces.write(tmp_path, pieces.FOLDERS["XLM-R"])
    tokenizer = Tokenizer(tmp_path, 20, 0)
    found, last = tokenizer(["a good day", "<mask>"]), tokenizer.vocabulary - 1
    first, second = found["text.ids"].tolist()
    assert "".join(map(tokenizer.tokenizer.id_to_token, first)) == "<s>▁a▁good▁day</s>"
    assert second == [0, last, 2, *[1] * (len(first) - 3)] and found["text.mask"].sum(1).tolist() == [len(first), 3]
    assert set(tokenizer.files) == {"sentencepiece.bpe.model", "special_tokens_map.json"}
    with pytest.raises(UserError, match=f"ids up to {last}, but the model has {last} token embeddings"):
        Tokenizer(tmp_path, 8, 0, rows=last)


@pytest.mark.full
def test_a_tokenizer_in_python(tmp_path):
    pieces.write(tmp_path, pieces.SIGLIP)
    tokenizer = Tokenizer(tmp_path, 6, 0, types=True)
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 6 tokens"):
        found = tokenizer(["the cat sat on the mat", ""])
    assert found["text.mask"].sum(1).tolist() == [6, 1] and found["text.ids"][:, -1].tolist() == [1, 1]
    assert tokenizer(["A!"])["text.ids"].tolist() == tokenizer(["a"])["text.ids"].tolist()
    assert tokenizer(["a"], pairs=["a"])["text.types"].tolist() == [[0] * tokenizer(["a"], ["a"])["text.ids"].shape[1]]
    assert tokenizer.fingerprint == Tokenizer(tmp_path, 6, 0).fingerprint


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: x[: len(x) // 2], "is no sentencepiece model, or is cut off: fetch it again"),
        (lambda x: b"", "is empty: fetch it again"),
        (lambda x: b"<!DOCTYPE html>", "is a web page: fetch it again"),
        (lambda x: b"IQ== 0\nIg== 1\n", "is no sentencepiece model, or is cut off"),
    ],
    ids=["cut off", "empty", "a web page", "tiktoken"],
)
def test_a_damaged_sentencepiece_model(make, said, tmp_path):
    pieces.write(tmp_path, pieces.FOLDERS["XLM-R"])
    path = tmp_path / "sentencepiece.bpe.model"
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(UserError, match=f"sentencepiece.bpe.model {said}"):
        Tokenizer(tmp_path, 8, 0)


def test_a_sentencepiece_model_is_whole_only_at_its_end():
    data = pieces.trained()
    assert is_whole(data) and not any(is_whole(data[:n]) for n in range(0, len(data), 199))


@pytest.mark.parametrize("field", ["auto_map", "sp_model_kwargs"])
def test_code_of_an_author_and_random_tokens(field, tmp_path):
    pieces.write(tmp_path, pieces.FOLDERS["XLM-R"])
    value = {"AutoTokenizer": ["mine.Mine", None]} if field == "auto_map" else {"enable_sampling": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({field: value}))
    with pytest.raises(UserError, match=f"tokenizer_config.json has {field}, which .*: it is not supported"):
        Tokenizer(tmp_path, 8, 0)


def test_a_class_without_its_vocabulary(tmp_path):
    """transformers would have the special tokens only."""
    pieces.write(tmp_path, pieces.FOLDERS["XLM-R"]._replace(config={"model_type": "bert"}))
    with pytest.raises(UserError, match="BertTokenizer reads tokenizer.json or .* which the folder lacks"):
        Tokenizer(tmp_path, 8, 0)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="has no vocab.json, which a tokenizer of clip reads: fetch it"):
        Tokenizer(tmp_path, 8, 0)


def test_the_class_in_config_is_saved_with_the_tokenizer(tmp_path):
    """What is saved has a config.json without it."""
    (tmp_path / "vocab.txt").write_text(texts.PLAIN)
    (tmp_path / "config.json").write_text('{"model_type": "roberta", "tokenizer_class": "BertTokenizer"}')
    files = Tokenizer(tmp_path, 8, 0).files
    assert json.loads(files["tokenizer_config.json"]) == {"tokenizer_class": "BertTokenizer"}
