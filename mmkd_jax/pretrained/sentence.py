"""Folders of sentence-transformers: the encoder's folder, its settings, and the modules after it."""

import json
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.sentence import NORMALIZE, POOLINGS, Projection, SentenceHead
from mmkd_jax.pretrained import folder
from mmkd_jax.pretrained.attributes import attributes, field, replaced
from mmkd_jax.pretrained.mapping import DENSE, Table

MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
"""Supported modules, in this order; Dense and Normalize may be repeated and in any order."""
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flag in the configuration of Pooling -> pooling, in the order of concatenation."""
ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu"}
"""Class in PyTorch -> name in `nn.activations`."""
_FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_SETTINGS = tuple(f"sentence_{family}_config.json" for family in _FAMILIES)
"""Names of the file with the settings of Transformer; the first that exists counts."""
_WITHOUT_EFFECT = ("max_seq_length", "do_lower_case", "unpad_inputs", "query_length", "document_length")
_MOST = 64
"""Maximum number of modules."""


class Sentence(NamedTuple):
    """What modules.json sets; without that file, the defaults.

    Attributes:
        encoder: folder of the encoder's weights, config.json and tokenizer.
        options: arguments of the tokenizer.
        poolings: as in `SentenceHead`; empty without Pooling.
        layers: as in `SentenceHead`.
        tensors: tensors of the dense layers, named as in `table`.
    """

    encoder: pathlib.Path
    options: Mapping[str, Any] = {}
    poolings: tuple[str, ...] = ()
    layers: tuple[Projection | str, ...] = ()
    tensors: Mapping[str, np.ndarray] = {}


def read(where: pathlib.Path, heads: bool) -> Sentence:
    """Read the modules of a folder.

    Args:
        where: model folder.
        heads: read those after Pooling as well, and require its configuration.

    Raises:
        UserError: a file is missing or damaged, a path leads out of the folder, or a module or one of its settings is
            not supported.
    """
    if not (where / "modules.json").exists():
        return Sentence(where)
    listed = _listed(where, heads)
    encoder = where / listed[0][1]
    options = _options(encoder, bool(listed[1:]) and heads)
    if not listed[1:]:
        return Sentence(encoder, options)
    kind, path = listed[1]
    pooling = where / path
    if not heads:
        known = kind == "Pooling" and (pooling / "config.json").exists()
        return Sentence(encoder, options, _poolings(pooling) if known else ("mean",))
    _refuse_prompts(where)
    layers: list[Projection | str] = []
    tensors: dict[str, np.ndarray] = {}
    for kind, path in listed[2:]:
        if kind == "Dense":
            layer, own = _dense(where / path)
            tensors |= {f"{_name(len(layers), layer)}.{k}": x for k, x in own.items()}
        else:
            layer = NORMALIZE
            if path and (where / path / "config.json").exists():
                _refuse_others(where / path, folder.read_json(where / path, "config.json"))
        layers.append(layer)
    return Sentence(encoder, options, _poolings(pooling), tuple(layers), tensors)


def _listed(where: pathlib.Path, heads: bool) -> list[tuple[str, str]]:
    """Return (kind, path in the folder) of each module."""
    path, listed = where / "modules.json", []
    content = foreign_files.read_json_list(path)
    if not 1 <= len(content) <= _MOST:
        raise UserError(f"{path} lists {len(content):,} modules; expected 1 to {_MOST}")
    for module in content:
        if not isinstance(module, dict) or not isinstance(module.get("type"), str):
            raise UserError(f"{path} lists {shown(reprlib.repr(module))}; expected modules with a type and a path")
        inside = module.get("path")
        if inside != "" and not folder.is_plain(inside):
            raise UserError(f"{path} names {shown(repr(inside))}; expected the name of a folder in the same folder")
        listed.append((_kind(module["type"]), inside))
    names = [str(module.get("name")) for module in content]
    if len(names) > 1 and (twice := [n for n in names if names.count(n) > 1]):
        raise UserError(f"{path} has two modules with the name {shown(twice[0])}: fetch it again")
    kinds = [kind for kind, _ in listed]
    wrong = [k for k, expected in zip(kinds, MODULES[: 2 if heads else 1], strict=False) if k != expected]
    wrong += [k for k in kinds[2:] if heads and k not in MODULES[2:]]
    if wrong:
        raise UserError(
            f"{path} lists {shown(wrong[0])}; supported are Transformer, Pooling, then any number of Dense and "
            f"Normalize{': pass heads=False for the encoder alone' if kinds[0] == 'Transformer' else ''}"
        )
    return listed


def _kind(type_name: str) -> str:
    """Return the name in `MODULES`, or the whole of another type."""
    package, _, kind = type_name.rpartition(".")
    return kind if kind in MODULES and package.startswith("sentence_transformers.") else type_name


def _options(encoder: pathlib.Path, embeds: bool) -> dict[str, Any]:
    """Return the arguments of the tokenizer, from the settings of Transformer."""
    name = next((n for n in _SETTINGS if (encoder / n).exists()), None)
    if name is None:
        return {}
    fields = folder.read_json(encoder, name)
    expected = {
        "transformer_task": "feature-extraction",
        "module_output_name": "token_embeddings",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    }
    for key, value in fields.items() if embeds else ():
        if key not in _WITHOUT_EFFECT and value not in (None, {}) and value != expected.get(key):
            said = f"{shown(key)}={shown(repr(value))}"
            raise UserError(f"{encoder / name} has {said}, which is not supported: pass heads=False")
    try:
        longest, lowercase = field(fields, "max_seq_length", None), field(fields, "do_lower_case", False)
    except UserError as error:
        raise UserError(str(error).replace("config.json", f"{encoder / name}", 1)) from None
    return {"longest": longest, "lowercase": lowercase}


def _refuse_prompts(where: pathlib.Path) -> None:
    """Refuse a prompt before each text, and embeddings that are cut."""
    name = "config_sentence_transformers.json"
    fields = folder.read_json(where, name) if (where / name).exists() else {}
    for key in ("default_prompt_name", "truncate_dim"):
        if fields.get(key) is not None:
            said = f"{key}={shown(repr(fields[key]))}"
            raise UserError(f"{where / name} has {said}, which is not supported: pass heads=False")


def _poolings(where: pathlib.Path) -> tuple[str, ...]:
    """Return the poolings of a Pooling module."""
    fields = folder.read_json(where, "config.json")
    named = fields.get("pooling_mode")
    if named is None:
        for key, value in fields.items():
            if key.startswith("pooling_mode") and value and (key not in FLAGS or value is not True):
                said = f"{shown(key)}={shown(repr(value))}"
                raise UserError(f"{where}/config.json has {said}; expected true or false for {choices(FLAGS)}")
        return tuple(mode for key, mode in FLAGS.items() if fields.get(key)) or ("mean",)
    listed = [named] if isinstance(named, str) else named
    if not isinstance(listed, list) or not listed or not all(isinstance(x, str) and x in POOLINGS for x in listed):
        raise UserError(f"{where}/config.json has pooling_mode={shown(repr(named))}; expected {choices(POOLINGS)}")
    if len(set(listed)) < len(listed):
        raise UserError(f"{where}/config.json has pooling_mode={shown(repr(named))}; expected each once")
    return tuple(listed)


def _dense(where: pathlib.Path) -> tuple[Projection, dict[str, np.ndarray]]:
    """Return a dense layer and its tensors."""
    fields = folder.read_json(where, "config.json")
    _refuse_others(where, fields)
    try:
        shape = field(fields, "out_features", 0), field(fields, "in_features", 0)
        bias = field(fields, "bias", True)
        called = field(fields, "activation_function", "torch.nn.modules.activation.Tanh")
    except UserError as error:
        raise error.within(str(where)) from None
    name = called.rpartition(".")[2]
    if name not in ACTIVATIONS or not called.startswith("torch.nn."):
        said = f"activation_function={shown(repr(called))}"
        raise UserError(f"{where}/config.json has {said}; expected a class of torch.nn: {choices(ACTIVATIONS)}")
    tensors = folder.read_tensors(where)
    expected = {"linear.weight": shape} | ({"linear.bias": shape[:1]} if bias else {})
    if tensors.keys() != expected.keys():
        raise UserError(f"{where} has tensors {shown(choices(tensors))}; expected {choices(expected)}")
    for key, size in expected.items():
        if tensors[key].shape != size:
            found = f"{key} with shape {shown(list(tensors[key].shape))}"
            raise UserError(f"{where} has {found}; its config.json has {list(size)}: fetch both again")
    return Projection(shape[0], ACTIVATIONS[name], bias), tensors


def _refuse_others(where: pathlib.Path, fields: Mapping[str, Any]) -> None:
    """Refuse what a Dense or Normalize module does beyond its layer."""
    names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    for key, expected in (names | {"use_residual": False}).items():
        if fields.get(key, expected) not in (expected, None):
            raise UserError(f"{where}/config.json has {key}={shown(repr(fields[key]))}; only {expected!r} is supported")


def with_embedding(module: Any, sentence: Sentence) -> Any:
    """Return the encoder with the head of a folder; its features are the first token if that alone is pooled.

    Args:
        module: encoder, from `build`.
        sentence: content of the folder, from `read`.

    Raises:
        UserError: the first dense layer does not fit the encoder, or one does not fit that before it.
    """
    (encoder,) = module.encoders.values()
    width = attributes(encoder)["embed_dim"] * len(sentence.poolings)
    for i, layer in enumerate(sentence.layers):
        if isinstance(layer, Projection):
            name = _name(i, layer)
            if (found := sentence.tensors[f"{name}.linear.weight"].shape[1]) != width:
                raise UserError(f"module {name} has in_features={found} for {width} values: fetch all of one model")
            width = layer.width
    return module.clone(heads={"embedding": SentenceHead(sentence.poolings, sentence.layers)})


def with_pool(module: Any, sentence: Sentence) -> Any:
    """Return the encoder, with the first token as its features if that alone is pooled."""
    if sentence.poolings != ("cls",):
        return module
    return module.clone(encoders={m: replaced(e, pool="first") for m, e in module.encoders.items()})


def _name(i: int, layer: Projection | str) -> str:
    """Return the folder in which sentence-transformers saves layer i."""
    return f"{i + 2}_{'Dense' if isinstance(layer, Projection) else 'Normalize'}"


def _head(module: Any) -> SentenceHead | None:
    heads = getattr(module, "heads", {}).values()
    return next((head for head in heads if isinstance(head, SentenceHead)), None)


def table(module: Any) -> Table:
    """Return the tensor table of a module's sentence embedding; empty without one."""
    head = _head(module)
    layers = enumerate(head.layers if head else ())
    return {f"heads_embedding/dense_{i}": (f"{_name(i, x)}.linear", DENSE) for i, x in layers}


def written(module: Any, processor: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, bytes | str]:
    """Return the files of a module's sentence embedding, by path; empty without one.

    Args:
        module: the module.
        processor: its tokenizer, whose length is written; or None.
        tensors: tensors of all its dense layers, named as in `table`.
    """
    from safetensors.numpy import save as serialized

    head = _head(module)
    if head is None:
        return {}
    (encoder,) = module.encoders.values()
    width = attributes(encoder)["embed_dim"]
    pooling: dict[str, Any] = {"word_embedding_dimension": width}
    if list(head.poolings) == [mode for mode in FLAGS.values() if mode in head.poolings]:
        pooling |= {flag: mode in head.poolings for flag, mode in FLAGS.items()}
    else:  # flags have an order of their own
        pooling |= {"pooling_mode": list(head.poolings)}
    length, lowercase = getattr(processor, "length", None), getattr(processor, "lowercase", False)
    settings = {"do_lower_case": lowercase} | ({} if length is None else {"max_seq_length": length})
    names = ["", "1_Pooling", *(_name(i, layer) for i, layer in enumerate(head.layers))]
    kinds = ["Transformer", "Pooling", *(name.partition("_")[2] for name in names[2:])]
    modules = [
        {"idx": i, "name": str(i), "path": name, "type": f"sentence_transformers.models.{kind}"}
        for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    found: dict[str, bytes | str] = {_SETTINGS[0]: _json(settings), "1_Pooling/config.json": _json(pooling)}
    classes = {ours: f"torch.nn.modules.{'activation' if ours else 'linear'}.{x}" for x, ours in ACTIVATIONS.items()}
    for name, layer in zip(names[2:], head.layers, strict=True):
        if isinstance(layer, Projection):
            own = {k.removeprefix(f"{name}."): x for k, x in tensors.items() if k.startswith(f"{name}.")}
            if layer.activation not in classes:
                raise UserError(f"Dense has no activation {layer.activation!r}; expected {choices(ACTIVATIONS)}")
            sizes = {"in_features": own["linear.weight"].shape[1], "out_features": layer.width, "bias": layer.bias}
            found[f"{name}/config.json"] = _json(sizes | {"activation_function": classes[layer.activation]})
            found[f"{name}/model.safetensors"] = serialized(own, metadata={"format": "pt"})
    return found | {"modules.json": _json(modules)}


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
