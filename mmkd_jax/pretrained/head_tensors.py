"""Heads of each architecture of transformers: what they read, and the published names of their layers."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class HeadTensors(NamedTuple):
    """A head of an architecture: its input, and the published names of its layers.

    Attributes:
        read: input, as in `TaskHead`; or the key of config.json that names it, "cls" or "mean".
        out: last layer; with `tied`, the scope of its bias.
        tokens: output that contains the tokens, as in `TaskHead`.
        hidden: hidden layer; "" omits it.
        activation: activation after it; a key of config.json that names it; "config" is that of the encoder, None the
            identity.
        norm: LayerNorm; "" omits it.
        norm_of: what it is applied to, as in `TaskHead`.
        tied: whether the last layer's kernel is the table of token embeddings.
        dropout: key of config.json for the dropout rate before the last layer; "" for no dropout.
        rate: that rate without the key; None is the encoder's own rate.
        input_dropout: whether the rate is that of the head's input as well.
        labels: whether config.json names the classes.
        problem: whether it is a classification or regression of rows, with a `problem_type`.
        width_key: key of config.json for the width of the hidden layer; "" for one that the encoder's sizes determine.
        classes_key: key of config.json for the number of logits; "" if the labels or the vocabulary tell it.
        averaged: output that is the last of the hidden states which `use_weighted_layer_sum` averages, "tokens" or
            "hidden"; "" for a head without that key. transformers 5 reads it before the last LayerNorm of wav2vec 2.0
            and its relatives, and behind that of Whisper.
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
    dropout: str = ""
    rate: float | None = None
    input_dropout: bool = False
    labels: bool = True
    problem: bool = True
    width_key: str = ""
    classes_key: str = ""
    averaged: str = ""
    encoder_prefix: str | None = None


Architecture = Mapping[str, HeadTensors]
"""Name of an output -> head."""


def _one(read: str, out: str = "classifier", **more: Any) -> Architecture:
    return {"logits": HeadTensors(read, out, **more)}


_CLASSIFIER_DROPOUT: dict[str, Any] = {"tokens": "hidden", "dropout": "classifier_dropout"}
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


_PROJECTOR: dict[str, Any] = {"hidden": "projector", "width_key": "classifier_proj_size", "problem": False}
_CTC: dict[str, Any] = {
    "dropout": "final_dropout",
    "rate": 0.1,
    "classes_key": "vocab_size",
    "labels": False,
    "problem": False,
}


def _speech(name: str) -> Mapping[str, Architecture]:
    return {
        f"{name}ForSequenceClassification": _one("mean", averaged="hidden", **_PROJECTOR),
        f"{name}ForCTC": _one("tokens", "lm_head", **_CTC),
    }


_BERT_LM = _masked_lm("cls.predictions", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
_BERT_LM = {"logits": _BERT_LM["logits"]._replace(activation="config")}
_NEXT_SENTENCE = HeadTensors("pooled", "cls.seq_relationship", labels=False, problem=False)
_DISTILBERT = {"hidden": "pre_classifier", "activation": "relu", "dropout": "seq_classif_dropout", "rate": 0.2}
_DISTILBERT_LM = _masked_lm("vocab_projector", "vocab_transform", "vocab_layer_norm", "config")
_ALBERT_DROPOUT: dict[str, Any] = {"tokens": "hidden", "dropout": "classifier_dropout_prob", "rate": 0.1}
_HIDDEN_DROPOUT: dict[str, Any] = {"tokens": "hidden", "dropout": "hidden_dropout_prob"}
_MODERN: dict[str, Any] = {"hidden": "head.dense", "activation": "classifier_activation", "norm": "head.norm"}
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
    "data2vec-text": _roberta("Data2VecText"),
    "electra": {
        "ElectraForSequenceClassification": _one(
            "first", "classifier.out_proj", **_TANH | {"activation": "gelu"}, **_CLASSIFIER_DROPOUT
        ),
        "ElectraForTokenClassification": _TAGGER,
        "ElectraForMaskedLM": _masked_lm(
            "generator_lm_head", "generator_predictions.dense", "generator_predictions.LayerNorm"
        ),
    },
    "albert": {
        "AlbertForSequenceClassification": _one("pooled", **_ALBERT_DROPOUT),
        "AlbertForTokenClassification": _one("tokens", problem=False, **_ALBERT_DROPOUT),
        "AlbertForMaskedLM": _masked_lm("predictions", "predictions.dense", "predictions.LayerNorm", "config"),
    },
    "mpnet": {
        "MPNetForSequenceClassification": _one("first", "classifier.out_proj", **_TANH, **_HIDDEN_DROPOUT),
        "MPNetForTokenClassification": _one("tokens", problem=False, **_HIDDEN_DROPOUT),
        "MPNetForMaskedLM": _masked_lm("lm_head", "lm_head.dense", "lm_head.layer_norm"),
    },
    "deberta-v2": {
        "DebertaV2ForSequenceClassification": _one(
            "first",
            tokens="hidden",
            hidden="pooler.dense",
            activation="pooler_hidden_act",
            dropout="cls_dropout",
            width_key="pooler_hidden_size",
        ),
        "DebertaV2ForTokenClassification": _one("tokens", problem=False, **_HIDDEN_DROPOUT),
        "DebertaV2ForMaskedLM": _BERT_LM,
    },
    "modernbert": {
        "ModernBertForSequenceClassification": _one("classifier_pooling", **_MODERN, dropout="classifier_dropout"),
        "ModernBertForTokenClassification": _one("tokens", problem=False, **_MODERN, dropout="classifier_dropout"),
        "ModernBertForMaskedLM": _one("tokens", "decoder", tied=True, labels=False, problem=False, **_MODERN),
    },
    "distilbert": {
        "DistilBertForSequenceClassification": _one("first", tokens="hidden", **_DISTILBERT),
        "DistilBertForTokenClassification": _one("tokens", tokens="hidden", dropout="dropout", problem=False),
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
    "dinov2_with_registers": {"Dinov2WithRegistersForImageClassification": _one("first_and_mean")},
    "swin": {"SwinForImageClassification": _one("features")},
    "convnextv2": {"ConvNextV2ForImageClassification": _one("features")},
    "mobilenet_v2": {
        "MobileNetV2ForImageClassification": _one("features", dropout="classifier_dropout_prob", rate=0.8)
    },
    "resnet": {"ResNetForImageClassification": _one("features", "classifier.1")},
    "convnext": {"ConvNextForImageClassification": _one("features")},
    "efficientnet-lite": {"": _one("features", "_fc")},
    "clip": {"CLIPForImageClassification": _one("mean", tokens="hidden", encoder_prefix="")},
    "siglip": {"SiglipForImageClassification": _one("mean", encoder_prefix="")},
    "wav2vec2": _speech("Wav2Vec2"),
    "hubert": _speech("Hubert"),
    "data2vec-audio": _speech("Data2VecAudio"),
    "wavlm": _speech("WavLM"),
    "whisper": {
        "WhisperForAudioClassification": _one("mean", averaged="tokens", encoder_prefix="", **_PROJECTOR),
    },
    "audio-spectrogram-transformer": {
        "ASTForAudioClassification": _one("prefix", "classifier.dense", norm="classifier.layernorm", norm_of="input"),
    },
    "vivit": {"VivitForVideoClassification": _one("first")},
    "timesformer": {"TimesformerForVideoClassification": _one("features")},
}
"""`model_type` -> architecture -> its heads. The architecture "" is that of a file without one."""
