"""SigLIP 2 of fixed resolution is a SigLIP with Gemma's vocabulary: its texts become the ids of transformers."""

import json

import pytest
import transformers

from mmkd_jax import pretrained
from mmkd_jax.errors import UserError
from tests.parity.cases import quiet

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
PIECES = ["▁", "a", "b", "A", "ab", "▁a", "▁A", "."]
TEXTS = ["ab A b. Aab", "", "a" * 20]
TOWER = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}


@pytest.fixture(params=["GemmaTokenizer", "GemmaTokenizer, called Siglip2Tokenizer", "Siglip2Tokenizer"])
def folder(request, tmp_path):
    kind, _, called = request.param.partition(", called ")
    vocabulary = {w: i for i, w in enumerate(SPECIAL + PIECES)}
    merges = [("a", "b"), ("▁", "a"), ("▁", "A")]
    ends = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right", "model_max_length": 12}
    getattr(transformers, kind)(vocab=vocabulary, merges=merges, **ends).save_pretrained(tmp_path)
    if called:
        changed(tmp_path, tokenizer_class=called)
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    text = TOWER | {"vocab_size": len(vocabulary), "max_position_embeddings": 12} | special
    config = transformers.SiglipConfig(text_config=text, vision_config=TOWER | {"image_size": 8, "patch_size": 4})
    with quiet():
        transformers.SiglipModel(config).save_pretrained(tmp_path)
    return tmp_path


def changed(folder, **fields):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.filterwarnings("ignore:1 of 3 texts have more than 12 tokens")
def test_ids_are_those_of_transformers(folder):
    with quiet():
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    expected = theirs(TEXTS, padding="max_length", truncation=True, max_length=12)["input_ids"]
    found = pretrained.load(folder).processor(TEXTS)
    assert found["text.ids"].tolist() == expected and found["text.mask"].all()


def test_padding_on_the_left_is_refused(folder):
    changed(folder, padding_side="left")
    with pytest.raises(UserError, match=r"asks for padding on the left, .*: set padding_side to 'right'"):
        pretrained.load(folder).processor(TEXTS)
