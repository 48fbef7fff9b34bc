"""Heads of fine-tuned checkpoints: built from their tensors, and described as config.json does."""

import re
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.heads import TaskHead
from mmkd_jax.models.timesformer import SPACE
from mmkd_jax.pretrained.attributes import attributes, field
from mmkd_jax.pretrained.head_tensors import HEADS, Architecture, HeadTensors
from mmkd_jax.pretrained.mapping import DENSE, NORM, SAME, Table

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
"""Values of `problem_type`."""
_POOLING, _POOLINGS = "classifier_pooling", {"cls": "first", "mean": "mean"}
_AVERAGE = "use_weighted_layer_sum"
_ACTIVATIONS = ("classifier_activation", "pooler_hidden_act")
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def architecture(config: Mapping[str, Any]) -> str:
    """Return the architecture that config.json names; "" if it names none.

    Raises:
        UserError: `architectures` is not a list of names.
    """
    found = config.get("architectures") or [""]
    if not isinstance(found, list) or not isinstance(found[0], str):
        raise UserError(f"config.json has architectures={reprlib.repr(found)}; expected a list with a name")
    return found[0]


def with_heads(module: Any, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Any:
    """Return the encoder with the heads of the architecture in config.json; as it is if that has none here.

    Args:
        module: encoder, from `build`.
        config: content of config.json.
        tensors: tensors of the file, by name.

    Raises:
        UserError: a tensor of a head is missing, or config.json contradicts it.
    """
    kind, name = config["model_type"], architecture(config)
    known = HEADS.get(kind, {}).get(name, {})
    if known and name == "" and not all(f"{spec.out}.bias" in tensors for spec in known.values()):
        return module
    if getattr(module.encoders.get("video"), "attention", "") == SPACE:  # transformers returns logits of each frame
        return module
    heads = {output: _read(module, spec, config, name, tensors) for output, spec in known.items()}
    return module.clone(heads=heads) if heads else module


def _read(module, spec, config, name, tensors):
    """Build a head from its tensors."""
    for tensor in (f"{spec.out}.bias", spec.hidden and f"{spec.hidden}.weight", spec.norm and f"{spec.norm}.weight"):
        if tensor and tensor not in tensors:
            remedy = "fetch the weights of the same model, or pass heads=False for the encoder alone"
            raise UserError(f"the weights lack {tensor}, which {name} has: {remedy}")
    if spec.tied and config.get("tie_word_embeddings", True) is not True:
        raise UserError("config.json has tie_word_embeddings=False; only True is supported: pass heads=False")
    classes = len(tensors[f"{spec.out}.bias"])
    width = len(tensors[f"{spec.hidden}.weight"]) if spec.hidden else None
    biases = {f"{layer}.bias" in tensors for layer in (spec.hidden, spec.norm) if layer} or {True}
    if len(biases) > 1:
        raise UserError(f"only one of {spec.hidden} and {spec.norm} has a bias: pass heads=False for the encoder alone")
    return build(module, spec, config, classes, width, biases.pop())


def build(
    module: Any,
    spec: HeadTensors,
    config: Mapping[str, Any],
    classes: int,
    width: int | None,
    bias: bool | None = None,
) -> TaskHead:
    """Build a head of an encoder.

    Args:
        module: the encoder.
        spec: the head's tensors.
        config: content of config.json, for dropout rates and the problem.
        classes: number of logits.
        width: width of the hidden layer; None omits it.
        bias: whether the hidden layer and the LayerNorm have a bias; None is the same as the encoder's LayerNorms.

    Raises:
        UserError: config.json has an invalid value.
    """
    (encoder,) = module.encoders.values()
    values, rate = attributes(encoder), 0.0
    if spec.tied and classes != encoder.vocabulary:
        raise UserError(f"{spec.out}.bias has {classes} values for a vocabulary of {encoder.vocabulary}")
    if spec.dropout:
        rate = values.get("dropout", 0.0) if spec.rate is None else spec.rate
        rate = rate if config.get(spec.dropout) is None else field(config, spec.dropout, 0.1)
    read, activation = spec.read, values["activation"] if spec.activation == "config" else spec.activation
    if read == _POOLING:
        pooling = config.get(_POOLING, "cls")
        if pooling not in _POOLINGS:
            raise UserError(
                f"config.json has {_POOLING}={reprlib.repr(pooling)}; expected one of: {choices(_POOLINGS)}"
            )
        read = _POOLINGS[pooling]
    if activation in _ACTIVATIONS:
        activation = field(config, activation, "gelu")
    averaged = field(config, _AVERAGE, False) and spec.averaged
    return TaskHead(
        classes,
        read=read,
        tokens=spec.averaged if averaged else spec.tokens,
        num_prefix_tokens=values.get("num_prefix_tokens", 0) + values.get("registers", 0),
        num_layers=values["num_layers"] + 1 if averaged else 0,
        width=width,
        activation=activation,
        norm=spec.norm_of if spec.norm else None,
        bias=values.get("norm_bias", True) if bias is None else bias,
        eps=values.get("eps", 1e-12),
        tied=spec.tied,
        input_dropout=rate if spec.input_dropout else 0.0,
        dropout=rate,
        problem=_problem(config, classes) if spec.problem else "",
    )


def _problem(config, classes):
    problem = config.get("problem_type")
    if problem is None:  # as transformers infers it
        return "regression" if classes == 1 else "single_label_classification"
    if problem not in PROBLEMS:
        raise UserError(f"config.json has problem_type={reprlib.repr(problem)}; expected one of: {choices(PROBLEMS)}")
    return problem


def labels(module: Any, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes, in the order of the logits; empty without names, as for LABEL_0, LABEL_1.

    Raises:
        UserError: `id2label` does not name each class of the head.
    """
    specs = HEADS.get(config["model_type"], {}).get(architecture(config), {})
    known = config.get("id2label")
    if not _task_heads(module) or not any(spec.labels for spec in specs.values()) or known is None:
        return ()
    counts = {head.classes for head in _task_heads(module).values()}
    if not isinstance(known, dict) or not all(isinstance(x, str) for x in known.values()):
        raise UserError(f"config.json has id2label={reprlib.repr(known)}; expected an object of names")
    for classes in counts:
        if known.keys() != {str(i) for i in range(classes)}:
            raise UserError(
                f"config.json has id2label with {len(known)} names; the head has {classes} classes, 0 … {classes - 1}"
            )
    names = tuple(known[str(i)] for i in range(len(known)))
    return () if all(map(_PLACEHOLDER.fullmatch, names)) else names


def table(kind: str, module: Any) -> Table:
    """Return the tensor table of a module's heads."""
    rows: Table = {}
    for output, spec in _specs(kind, module)[1].items():
        scope = f"heads_{output}"
        layers = {"hidden": (spec.hidden, DENSE), "norm": (spec.norm, NORM), "out": (spec.out, DENSE)}
        rows |= {f"{scope}/{path}": row for path, row in layers.items() if row[0]}
        rows[scope] = ("", {"bias": (f"{spec.out}.bias", SAME), "layer_weights": ("layer_weights", SAME)})
    return rows


def prefix(kind: str, module: Any, of_family: str) -> str:
    """Return the prefix of the encoder's tensors, which they have beside those of heads or of a projection."""
    if not _task_heads(module) and getattr(module, "width", None) is None:
        return ""
    specs = _specs(kind, module)[1]
    found = {of_family if spec.encoder_prefix is None else spec.encoder_prefix for spec in specs.values()}
    return found.pop() if found else of_family


def describe(kind: str, module: Any, names: Collection[str]) -> dict[str, Any]:
    """Return the keys of config.json that describe a module's heads.

    Args:
        kind: `model_type`.
        module: the module.
        names: names of the classes; empty for none.

    Raises:
        UserError: the number of names differs from that of the classes, or the module has no head.
    """
    if not _task_heads(module):
        if names:
            raise UserError(f"labels {choices(names)}: the module has no head")
        return {}
    found, specs = _specs(kind, module)
    described: dict[str, Any] = {"architectures": [found]} if found else {}
    for output, spec in specs.items():
        head = module.heads[output]
        classes = head.classes
        if names and (len(names) != classes or not spec.labels):
            raise UserError(f"{len(names)} labels, {choices(names)}, for a head with {classes} classes")
        if spec.labels:
            each = list(names) or [f"LABEL_{i}" for i in range(classes)]
            described |= {"id2label": {str(i): x for i, x in enumerate(each)}}
            described |= {"label2id": {x: i for i, x in enumerate(each)}}
        elif spec.classes_key:
            described[spec.classes_key] = classes
        described |= {"problem_type": head.problem} if head.problem else {}
        described |= {spec.dropout: head.dropout} if spec.dropout else {}
        described |= {spec.activation: head.activation} if spec.activation in _ACTIVATIONS else {}
        described |= {spec.width_key: head.width} if spec.width_key else {}
        described |= {_AVERAGE: head.num_layers > 0} if spec.averaged else {}
        if spec.read == _POOLING:
            described[_POOLING] = next(k for k, read in _POOLINGS.items() if read == head.read)
        if "classifier_activation" in described:
            (encoder,) = module.encoders.values()
            if head.bias != encoder.norm_bias:  # config.json has one key for all LayerNorms
                raise UserError(f"a head with bias={head.bias} on an encoder with norm_bias={encoder.norm_bias}")
            described["classifier_bias"] = head.bias
    return described


def _specs(kind: str, module: Any) -> tuple[str, Architecture]:
    """Return the architecture whose heads the module has, with the tensors of each; empty without heads.

    Raises:
        UserError: the kind has none.
    """
    heads = _task_heads(module)
    if not heads:
        return "", {}
    for name, specs in HEADS.get(kind, {}).items():
        if specs.keys() == heads.keys() and all(_fits(spec, heads[output]) for output, spec in specs.items()):
            return name, specs
    raise UserError(f"kind {kind!r} has no architecture with {shown(repr(dict(heads)))}")


def _task_heads(module: Any) -> dict[str, TaskHead]:
    return {n: head for n, head in getattr(module, "heads", {}).items() if isinstance(head, TaskHead)}


def _fits(spec: HeadTensors, head: TaskHead) -> bool:
    shape = (spec.tied, bool(spec.hidden), bool(spec.norm), spec.problem)
    reads = _POOLINGS.values() if spec.read == _POOLING else (spec.read,)
    found = (head.tied, head.width is not None, head.norm is not None, bool(head.problem))
    return shape == found and head.read in reads
