"""Heads of fine-tuned checkpoints: what each architecture of transformers reads, and the names of its tensors."""

import re
import reprlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.heads import TaskHead
from mmkd_jax.models.timesformer import SPACE
from mmkd_jax.pretrained.attributes import attributes, field
from mmkd_jax.pretrained.mapping import DENSE, NORM, SAME, Table

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
"""Values of `problem_type`."""
_PLACEHOLDER = re.compile(r"LABEL_\d+")


class HeadTensors(NamedTuple):
    """A head of an architecture: its input, and the published names of its layers.

    Attributes:
        read: input, as in `TaskHead`.
        out: last layer; with `tied`, the scope of its bias.
        tokens: output that contains the tokens, as in `TaskHead`.
        hidden: hidden layer; "" omits it.
        activation: activation after it; "config" is that of the encoder, None the identity.
        norm: LayerNorm; "" omits it.
        norm_of: what it is applied to, as in `TaskHead`.
        tied: whether the last layer's kernel is the table of token embeddings.
        dropout: keys of config.json for the dropout rate before the last layer; the first with a value counts, and the
            encoder's own rate if none has one. Empty for no dropout.
        input_dropout: whether the rate is that of the head's input as well.
        labels: whether config.json names the classes.
        problem: whether it is a classification or regression of rows, with a `problem_type`.
        encoder_prefix: prefix of the encoder's tensors; None is that of the family.
    """

    read: str
    out: str = "classifier"
    tokens: str = "tokens"
    hidden: str = ""
    activation: str | None = None
    norm: str = ""
    norm_of: str = "hidden"
    tied: bool = False
    dropout: tuple[str, ...] = ()
    input_dropout: bool = False
    labels: bool = True
    problem: bool = True
    encoder_prefix: str | None = None


Architecture = Mapping[str, HeadTensors]
"""Name of an output -> head."""


def _one(read: str, out: str = "classifier", **more: Any) -> Architecture:
    return {"logits": HeadTensors(read, out, **more)}


_CLASSIFIER_DROPOUT: dict[str, Any] = {"tokens": "hidden", "dropout": ("classifier_dropout",)}
_TAGGER = _one("tokens", problem=False, **_CLASSIFIER_DROPOUT)
_TANH = {"hidden": "classifier.dense", "activation": "tanh", "input_dropout": True}


def _masked_lm(out: str, hidden: str, norm: str, activation: str = "gelu") -> Architecture:
    where: dict[str, Any] = {"tokens": "hidden", "hidden": hidden, "norm": norm, "activation": activation}
    return _one("tokens", out, tied=True, labels=False, problem=False, **where)


def _roberta(name: str) -> Mapping[str, Architecture]:
    return {
        f"{name}ForSequenceClassification": _one("first", "classifier.out_proj", **_TANH, **_CLASSIFIER_DROPOUT),
        f"{name}ForTokenClassification": _TAGGER,
        f"{name}ForMaskedLM": _masked_lm("lm_head", "lm_head.dense", "lm_head.layer_norm"),
    }


def _speech(name: str) -> Mapping[str, Architecture]:
    return {
        f"{name}ForSequenceClassification": _one("mean", hidden="projector", problem=False),
        f"{name}ForCTC": _one("tokens", "lm_head", dropout=("final_dropout",), labels=False, problem=False),
    }


_BERT_LM = _masked_lm("cls.predictions", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
_BERT_LM = {"logits": _BERT_LM["logits"]._replace(activation="config")}
_NEXT_SENTENCE = HeadTensors("pooled", "cls.seq_relationship", labels=False, problem=False)
_DISTILBERT = {"hidden": "pre_classifier", "activation": "relu", "dropout": ("seq_classif_dropout",)}
_DISTILBERT_LM = _masked_lm("vocab_projector", "vocab_transform", "vocab_layer_norm", "config")
HEADS: Mapping[str, Mapping[str, Architecture]] = {
    "bert": {
        "BertForSequenceClassification": _one("pooled", **_CLASSIFIER_DROPOUT),
        "BertForTokenClassification": _TAGGER,
        "BertForMaskedLM": _BERT_LM,
        "BertForPreTraining": _BERT_LM | {"seq_relationship_logits": _NEXT_SENTENCE},
        "BertForNextSentencePrediction": {"logits": _NEXT_SENTENCE},
    },
    "roberta": _roberta("Roberta"),
    "xlm-roberta": _roberta("XLMRoberta"),
    "distilbert": {
        "DistilBertForSequenceClassification": _one("first", tokens="hidden", **_DISTILBERT),
        "DistilBertForTokenClassification": _one("tokens", tokens="hidden", dropout=("dropout",), problem=False),
        "DistilBertForMaskedLM": _DISTILBERT_LM,
    },
    "vit": {"ViTForImageClassification": _one("first")},
    "deit": {
        "DeiTForImageClassification": _one("first"),
        "DeiTForImageClassificationWithTeacher": {
            "cls_logits": HeadTensors("first", "cls_classifier"),
            "distillation_logits": HeadTensors("second", "distillation_classifier"),
        },
    },
    "dinov2": {"Dinov2ForImageClassification": _one("first_and_mean")},
    "resnet": {"ResNetForImageClassification": _one("features", "classifier.1")},
    "convnext": {"ConvNextForImageClassification": _one("features")},
    "efficientnet-lite": {"": _one("features", "_fc")},
    "clip": {"CLIPForImageClassification": _one("mean", tokens="hidden", encoder_prefix="")},
    "siglip": {"SiglipForImageClassification": _one("mean", encoder_prefix="")},
    "wav2vec2": _speech("Wav2Vec2"),
    "hubert": _speech("Hubert"),
    "whisper": {
        "WhisperForAudioClassification": _one("mean", hidden="projector", problem=False, encoder_prefix=""),
    },
    "audio-spectrogram-transformer": {
        "ASTForAudioClassification": _one("prefix", "classifier.dense", norm="classifier.layernorm", norm_of="input"),
    },
    "vivit": {"VivitForVideoClassification": _one("first")},
    "timesformer": {"TimesformerForVideoClassification": _one("features")},
}
"""`model_type` -> architecture -> its heads. The architecture "" is that of a file without one."""


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
    for layer in (spec.out, spec.hidden, spec.norm):
        if layer and f"{layer}.bias" not in tensors:
            remedy = "fetch the weights of the same model, or pass heads=False for the encoder alone"
            raise UserError(f"the weights lack {layer}.bias, which {name} has: {remedy}")
    if spec.tied and config.get("tie_word_embeddings", True) is not True:
        raise UserError("config.json has tie_word_embeddings=False; only True is supported: pass heads=False")
    classes = len(tensors[f"{spec.out}.bias"])
    width = len(tensors[f"{spec.hidden}.bias"]) if spec.hidden else None
    return build(module, spec, config, classes, width)


def build(module: Any, spec: HeadTensors, config: Mapping[str, Any], classes: int, width: int | None) -> TaskHead:
    """Build a head of an encoder.

    Args:
        module: the encoder.
        spec: the head's tensors.
        config: content of config.json, for dropout rates and the problem.
        classes: number of logits.
        width: width of the hidden layer; None omits it.

    Raises:
        UserError: config.json has an invalid value.
    """
    (encoder,) = module.encoders.values()
    values, rate = attributes(encoder), 0.0
    if spec.tied and classes != encoder.vocabulary:
        raise UserError(f"{spec.out}.bias has {classes} values for a vocabulary of {encoder.vocabulary}")
    if spec.dropout:
        keys = [k for k in spec.dropout if config.get(k) is not None]
        rate = field(config, keys[0], 0.1) if keys else values["dropout"]
    averaged = field(config, "use_weighted_layer_sum", False) and spec.hidden == "projector"
    return TaskHead(
        classes,
        read=spec.read,
        # transformers 5 averages the last state of these before its LayerNorm, that of Whisper behind it
        tokens="hidden" if averaged and config["model_type"] in ("wav2vec2", "hubert") else spec.tokens,
        num_prefix_tokens=values.get("num_prefix_tokens", 0),
        num_layers=values["num_layers"] + 1 if averaged else 0,
        width=width,
        activation=values["activation"] if spec.activation == "config" else spec.activation,
        norm=spec.norm_of if spec.norm else None,
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


def is_beside(module: Any) -> bool:
    """Return whether the module has more than encoders, beside which their tensors have a prefix."""
    return bool(_task_heads(module)) or getattr(module, "width", None) is not None


def prefix(kind: str, module: Any, of_family: str) -> str:
    """Return the prefix of the encoder's tensors beside those of its heads."""
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
        UserError: there are the number of classes differs from that of the names, or the module has no head.
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
        elif spec.out == "lm_head" and not spec.tied:
            described |= {"vocab_size": classes}
        described |= {"problem_type": head.problem} if head.problem else {}
        described |= {spec.dropout[0]: head.dropout} if spec.dropout else {}
        if spec.hidden == "projector":
            described |= {"classifier_proj_size": head.width, "use_weighted_layer_sum": head.num_layers > 0}
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
    shape = (spec.read, spec.tied, bool(spec.hidden), bool(spec.norm), spec.problem)
    return shape == (head.read, head.tied, head.width is not None, head.norm is not None, bool(head.problem))
