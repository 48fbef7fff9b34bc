"""Model folders without tokenizer.json that only transformers reads, drawn here."""

import functools
import io
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tokenizers

CORPUS = [
    "a good day for the cat",
    "the cat sat on the mat",
    "bad days are good days",
    "Ünïcode né \u4e2d\u56fd here",
] * 20
TEXTS = [
    "a good day",
    "Ünïcode né! [MASK] <mask> x",
    "the cat sat, on the mat.",
    "",
    "A </s> <pad>  \u4e2d\u56fd\nline",
]
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False}
JAPANESE = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"}


class Folder(NamedTuple):
    """Files that someone publishes.

    Attributes:
        config: config.json.
        files: name -> content, or what makes it.
        in_python: whether transformers has it in Python only.
    """

    config: Mapping[str, Any]
    files: Mapping[str, bytes | Callable[[], bytes]]
    in_python: bool = False


@functools.cache
def trained(kind: str = "unigram", **options: Any) -> bytes:
    """A sentencepiece model."""
    import sentencepiece

    file = io.BytesIO()
    common = {"vocab_size": 80, "hard_vocab_limit": False, "character_coverage": 1.0, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=file, model_type=kind, **common, **options
    )
    return file.getvalue()


def marked() -> bytes:
    """A model with BERT's special tokens, as of ALBERT and DeBERTa."""
    return trained(pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, user_defined_symbols="[CLS],[SEP],[MASK]")


def padded() -> bytes:
    """A model with padding and end, as of T5 and SigLIP."""
    return trained(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


@functools.cache
def bytes_pairs() -> tuple[bytes, bytes]:
    """vocab.json and merges.txt of RoBERTa."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CORPUS, vocab_size=320, special_tokens=special, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    merges = "\n".join(["#version: 0.2", *(m if isinstance(m, str) else " ".join(m) for m in model["merges"])])
    return json.dumps(model["vocab"]).encode(), merges.encode()


def letters() -> bytes:
    """vocab.json of CLIP."""
    ends = [c + e for e in ("", "</w>") for c in "abcdefghijklmnopqrstuvwxyz!.,"]
    words = [*ends, "da", "day</w>", "<|startoftext|>", "<|endoftext|>"]
    return json.dumps({w: i for i, w in enumerate(words)}).encode()


def words(*others: str) -> bytes:
    return "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *others]).encode()


def pair(**settings: Any) -> dict[str, Any]:
    files = {"vocab.json": lambda: bytes_pairs()[0], "merges.txt": lambda: bytes_pairs()[1]}
    return {**files, "tokenizer_config.json": json.dumps(settings).encode()}


SIGLIP = Folder({"model_type": "siglip"}, {"spiece.model": padded}, True)
FOLDERS = {
    "XLM-R": Folder(
        {"model_type": "xlm-roberta"},
        {"sentencepiece.bpe.model": trained, "special_tokens_map.json": json.dumps({"mask_token": MASK}).encode()},
    ),
    "ALBERT": Folder({"model_type": "bert", "tokenizer_class": "AlbertTokenizer"}, {"spiece.model": marked}),
    "CamemBERT": Folder(
        {"model_type": "roberta", "tokenizer_class": "CamembertTokenizer"}, {"sentencepiece.bpe.model": trained}
    ),
    "T5": Folder({"model_type": "bert", "tokenizer_class": "T5Tokenizer"}, {"spiece.model": padded}),
    "DeBERTa": Folder({"model_type": "bert", "tokenizer_class": "DebertaV2Tokenizer"}, {"spm.model": marked}),
    "LLaMA": Folder(
        {"model_type": "bert", "tokenizer_class": "LlamaTokenizer"}, {"tokenizer.model": lambda: trained("bpe")}
    ),
    "SigLIP": SIGLIP,
    "RoBERTa": Folder({"model_type": "roberta"}, pair()),
    "RoBERTa with a blank before": Folder({"model_type": "roberta"}, pair(add_prefix_space=True)),
    "RoBERTa, cut on the left": Folder({"model_type": "roberta"}, pair(truncation_side="left")),
    "GPT-2": Folder({"model_type": "roberta", "tokenizer_class": "GPT2Tokenizer"}, pair()),
    "CLIP": Folder(
        {"model_type": "clip"}, {"vocab.json": letters, "merges.txt": b"#version: 0.2\nd a\nda y</w>\n"}
    ),
    "ELECTRA": Folder({"model_type": "bert", "tokenizer_class": "ElectraTokenizer"}, {"vocab.txt": words("a", "good")}),
    "PhoBERT": Folder(
        {"model_type": "roberta", "tokenizer_class": "PhobertTokenizer"},
        {"vocab.txt": b"a 1\ngood 1\nda@@ 1\ny 1\n", "bpe.codes": b"d a 1\ng o 1\n"},
        True,
    ),
    "Japanese characters": Folder(
        {"model_type": "bert"},
        {
            "vocab.txt": words(*"agodythec\u4e2d\u56fd"),
            "tokenizer_config.json": json.dumps(JAPANESE | {"subword_tokenizer_type": "character"}).encode(),
        },
        True,
    ),
}  # fmt: skip


def write(folder: pathlib.Path, made: Folder) -> None:
    """Write a folder."""
    (folder / "config.json").write_text(json.dumps(made.config))
    for name, content in made.files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
