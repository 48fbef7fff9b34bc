"""Modules of sentence-transformers that no tool writes: files beside a good encoder, and words of the answer."""

import json
from typing import Any

import numpy as np
from safetensors.numpy import save

KINDS = "sentence_transformers.models."
MEAN = {"pooling_mode_mean_tokens": True}
DENSE = {"in_features": 8, "out_features": 3, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
TENSORS = {"linear.weight": np.ones((3, 8), np.float32), "linear.bias": np.ones(3, np.float32)}
Files = dict[str, Any]


def listed(*kinds: Any, **changed: Any) -> Files:
    """Transformer in the folder itself, then these modules; the last one is changed."""
    modules: list[dict[str, Any]] = [
        {"name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{KINDS}{kind}"}
        for i, kind in enumerate(("Transformer", *kinds))
    ]
    modules[-1] |= changed
    return {"modules.json": modules}


def pooling(**fields: Any) -> Files:
    return listed("Pooling") | {"1_Pooling/config.json": fields}


def dense(tensors: dict[str, np.ndarray] = TENSORS, **fields: Any) -> Files:
    files = listed("Pooling", "Dense") | {"1_Pooling/config.json": MEAN, "2_Dense/config.json": DENSE | fields}
    return files | {"2_Dense/model.safetensors": save(tensors)}


def beside(name: str, **fields: Any) -> Files:
    return pooling(**MEAN) | {name: fields}


SETTINGS, WHOLE = "sentence_bert_config.json", "config_sentence_transformers.json"
OUT = "expected the name of a folder in the same folder"
MODULES: dict[str, tuple[Files, str]] = {
    "good": (dense(), "result"),
    "an object": ({"modules.json": {}}, "contains a dict; expected a JSON list"),
    "deep": ({"modules.json": "[" * 100_000 + "]" * 100_000}, "not valid JSON"),
    "none": ({"modules.json": []}, "lists 0 modules; expected 1 to 64"),
    "many": ({"modules.json": [{}] * 10**5}, "lists 100,000 modules"),
    "a number": ({"modules.json": [3]}, "lists 3; expected modules with a type and a path"),
    "type is a list": ({"modules.json": [{"type": ["a"], "path": ""}]}, "expected modules with a type and a path"),
    **{
        f"path {path!r:.20}": (listed("Pooling", path=path), OUT)
        for path in ("../other", "/etc", "..", ".", "a/b", "a\\b", "a\0b", "\ud800", "a" * 1000, 3, None)
    },
    "path of the encoder": (listed(path="../good"), OUT),
    "no encoder in its folder": (listed(path="0_Transformer"), "0_Transformer has no config.json"),
    "two of one name": (listed("Pooling", name="0"), "has two modules with the name 0"),
    "another class": (listed("Pooling", "LSTM"), "lists sentence_transformers.models.LSTM; supported are Transformer"),
    "code of a stranger": (listed(type="custom.Pooling"), "lists custom.Pooling; supported are Transformer, Pooling"),
    "a type of two lines": (listed("Pooling", type="a\nb"), "lists 'a..b'; supported .*pass heads=False"),
    "two poolings": (listed("Pooling", "Pooling") | {"1_Pooling/config.json": MEAN}, "lists Pooling; supported"),
    "no pooling": (listed("Normalize"), "lists Normalize; supported"),
    "pooling without a file": (listed("Pooling"), "1_Pooling has no config.json"),
    "a flag of text": (pooling(pooling_mode_cls_token="no"), "has pooling_mode_cls_token='no'; expected"),
    "another flag": (pooling(pooling_mode_median=True), "has pooling_mode_median=True; expected"),
    **{
        f"pooling_mode={mode!r}": (pooling(pooling_mode=mode), "has pooling_mode=.*; expected")
        for mode in (3, "median", [], ["mean", 3], ["mean", "mean"], {}, [["mean"]])
    },
    "other inputs": (dense(in_features=7), r"linear.weight with shape \[3, 8\]; its config.json has \[3, 7\]"),
    "inputs that the encoder lacks": (
        dense(TENSORS | {"linear.weight": np.ones((3, 7), np.float32)}, in_features=7),
        "module 2_Dense has in_features=7 for 8 values",
    ),
    **{f"out_features={x!r}": (dense(out_features=x), "out_features=") for x in (10**12, 0, "3", None, 3.0)},
    "many outputs": (dense(out_features=10**9), r"linear.weight with shape \[3, 8\]"),
    "bias is text": (dense(bias="no"), "has bias='no'; expected true or false"),
    "no bias": (dense(bias=False), "has tensors linear.bias, linear.weight; expected linear.weight"),
    "Softmax": (
        dense(activation_function="torch.nn.modules.activation.Softmax"),
        "activation_function='torch.nn.modules.activation.Softmax'; expected a class of torch.nn: GELU, Identity",
    ),
    "code as activation": (dense(activation_function="os.Tanh"), "activation_function='os.Tanh'; expected"),
    "a residual": (dense(use_residual=True), "has use_residual=True; only False is supported"),
    "input of tokens": (dense(module_input_name="token_embeddings"), "has module_input_name='token_embeddings'"),
    "dense without weights": (
        {k: x for k, x in dense().items() if "safetensors" not in k},
        "2_Dense has neither model.safetensors nor pytorch_model.bin",
    ),
    "dense of int8": (dense({k: x.astype(np.int8) for k, x in TENSORS.items()}), "linear.bias has dtype int8"),
    "dense with NaN": (dense({k: x * np.nan for k, x in TENSORS.items()}), "values that are not finite"),
    **{
        f"max_seq_length={x!r}": (beside(SETTINGS, max_seq_length=x), "sentence_bert_config.json has max_seq_length=")
        for x in (0, -1, "8", True, 1.5, 10**12)
    },
    "do_lower_case is text": (beside(SETTINGS, do_lower_case="no"), "has do_lower_case='no'"),
    "another task": (beside(SETTINGS, transformer_task="fill-mask"), "has transformer_task='fill-mask'"),
    "arguments of the tokenizer": (beside(SETTINGS, tokenizer_args={"a": 1}), "has tokenizer_args={'a': 1}"),
    "a prompt": (beside(WHOLE, default_prompt_name="query"), "has default_prompt_name='query'"),
    "a cut embedding": (beside(WHOLE, truncate_dim=4), "has truncate_dim=4, which is not supported"),
}


def write(folder, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
