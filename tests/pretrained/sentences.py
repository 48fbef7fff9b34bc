"""Small folders of sentence-transformers, as others publish them: weights drawn at random, files written by hand."""

import functools
import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from mmkd_jax import pretrained
from mmkd_jax.models import Bert, Encoders, TransformerConfig
from tests.pretrained.small_encoders import drawn

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a film good bad ##ly ! Good it is not".split()
TEXTS = ["a good film !", "Bad", "", "it is not badly good , it is a film", "Good GOOD good"]
LENGTH, WIDTH = 24, 8
BERT = Encoders({"text": Bert(len(WORDS), TransformerConfig(WIDTH, 1, 2, 12), length=LENGTH)})
FLAGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"


class Folder(NamedTuple):
    """A folder to write.

    Attributes:
        pooling: content of the configuration of Pooling.
        layers: (outputs, activation, bias) of a dense layer, or None to normalize.
        inside: path of the encoder.
        settings: content of sentence_bert_config.json.
        cased: whether the vocabulary's tokenizer keeps upper case.
        types: prefix of the types of modules.
    """

    pooling: Mapping[str, Any]
    layers: tuple[tuple[int, str, bool] | None, ...] = ()
    inside: str = ""
    settings: Mapping[str, Any] = {"max_seq_length": 16, "do_lower_case": False}
    cased: bool = False
    types: str = OLD


def flags(*on: str) -> dict[str, bool]:
    return {f"pooling_mode_{flag}": flag in on for flag in FLAGS}


TANH = (6, "activation.Tanh", True)
CASES = {
    "mean": Folder(flags("mean_tokens")),
    "CLS": Folder(flags("cls_token"), inside="0_Transformer"),
    "max": Folder(flags("max_tokens")),
    "mean, square root of the length": Folder(flags("mean_sqrt_len_tokens")),
    "weighted mean": Folder(flags("weightedmean_tokens")),
    "last token": Folder(flags("lasttoken")),
    "two flags": Folder(flags("mean_tokens", "cls_token"), (None,)),
    "two modes, in their order": Folder({"pooling_mode": ["mean", "cls"]}, inside="0_Transformer"),
    "one mode": Folder({"pooling_mode": "weightedmean"}, (TANH,)),
    "dense layers, normalized": Folder(
        flags("mean_tokens"), (TANH, None, (5, "activation.ReLU", True), (4, "linear.Identity", False), None)
    ),
    "GELU": Folder(flags("cls_token", "max_tokens"), ((7, "activation.GELU", True),), inside="0_Transformer"),
    "cut to 6 tokens": Folder(flags("mean_tokens"), settings={"max_seq_length": 6, "do_lower_case": False}),
    "lowercased": Folder(
        flags("mean_tokens"), cased=True, settings={"max_seq_length": 16, "do_lower_case": True}
    ),
    "cased": Folder(flags("mean_tokens"), cased=True),
}  # fmt: skip


def write_json(path: pathlib.Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@functools.cache
def encoder_files() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        pretrained.save(folder, "bert", BERT, drawn(BERT, 5))
        return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def write(case: Folder, where: pathlib.Path) -> None:
    """Write a case's folder."""
    encoder = where / case.inside
    encoder.mkdir(parents=True, exist_ok=True)
    for name, content in encoder_files().items():
        (encoder / name).write_bytes(content)
    (encoder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": not case.cased, "model_max_length": LENGTH}
    write_json(encoder / "tokenizer_config.json", tokenizer)
    write_json(encoder / "sentence_bert_config.json", case.settings)
    write_json(where / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH} | dict(case.pooling))
    modules, draw = [("Transformer", case.inside), ("Pooling", "1_Pooling")], np.random.default_rng(6)
    width = WIDTH * max(1, sum(x is True for x in case.pooling.values()))
    for i, layer in enumerate(case.layers, 2):
        modules.append(("Normalize" if layer is None else "Dense", f"{i}_{'Normalize' if layer is None else 'Dense'}"))
        if layer is not None:
            outputs, activation, bias = layer
            tensors = {"linear.weight": draw.normal(size=(outputs, width)), "linear.bias": draw.normal(size=outputs)}
            fields = {"in_features": width, "out_features": outputs, "bias": bias}
            write_json(
                where / modules[-1][1] / "config.json",
                fields | {"activation_function": f"torch.nn.modules.{activation}"},
            )
            written = {k: x.astype(np.float32) for k, x in tensors.items() if bias or k != "linear.bias"}
            save_file(written, where / modules[-1][1] / "model.safetensors")
            width = outputs
    write_json(
        where / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"{case.types}.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
    )
