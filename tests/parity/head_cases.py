"""Small fine-tuned models of every family: each architecture whose head is read."""

import copy
from collections.abc import Mapping
from typing import Any

import transformers

from tests.parity import audio_cases, image_cases, spectrum_cases, text_cases, video_cases
from tests.parity.cases import Case

BASE = text_cases.CASES | image_cases.CASES | audio_cases.CASES | spectrum_cases.CASES | video_cases.CASES
NAMES = {0: "negative", 1: "neutral", 2: "positive"}


def fine_tuned(base: str, architecture: str, columns: tuple[str, ...] = (), **fields: Any) -> Case:
    """A case with the sizes and inputs of an encoder's case."""
    case = BASE[base]

    def make():
        config = copy.deepcopy(case.make().config)  # of all cases of an encoder
        config.id2label = NAMES
        for name, value in fields.items():
            setattr(config, name, value)
        return getattr(transformers, architecture)(config)

    def outputs(out):
        others = {n: out[n] for n in ("cls_logits", "distillation_logits", "seq_relationship_logits") if n in out}
        return others | {"logits": out.prediction_logits if "prediction_logits" in out else out.logits}

    batch: Mapping[str, Any] = {k: x for k, x in case.batch.items() if not columns or k.partition(".")[0] in columns}
    inputs = {k: x for k, x in case.inputs.items() if not columns or k == "pixel_values"}
    return case._replace(make=make, batch=dict(batch), inputs=inputs, outputs=outputs)


def text(base: str, name: str, **fields: Any) -> dict[str, Case]:
    kinds = ("SequenceClassification", "TokenClassification", "MaskedLM")
    return {f"{name}For{kind}": fine_tuned(base, f"{name}For{kind}", **fields) for kind in kinds}


def one(
    base: str, architecture: str, columns: tuple[str, ...] = (), variant: str = "", **fields: Any
) -> dict[str, Case]:
    return {f"{architecture}{variant}": fine_tuned(base, architecture, columns, **fields)}


IMAGE = ("image",)
AVERAGED = {"classifier_proj_size": 20, "use_weighted_layer_sum": True}
CASES = (
    text("bert", "Bert")
    | one("bert", "BertForSequenceClassification", variant=", multi-label", problem_type="multi_label_classification")
    | one("bert, tanh gelu, few positions", "BertForMaskedLM", variant=", tanh gelu")
    | one("bert", "BertForPreTraining")
    | text("roberta", "Roberta")
    | text("xlm-roberta", "XLMRoberta")
    | text("distilbert", "DistilBert")
    | text("electra", "Electra")
    | text("albert", "Albert")
    | text("mpnet", "MPNet")
    | text("deberta-v3", "DebertaV2")
    | text("modernbert", "ModernBert")
    | one("modernbert", "ModernBertForSequenceClassification", variant=", mean", classifier_pooling="mean")
    | text("data2vec, text", "Data2VecText")
    | one("data2vec, audio", "Data2VecAudioForCTC", vocab_size=11)
    | one("data2vec, audio", "Data2VecAudioForSequenceClassification", variant=", averaged", **AVERAGED)
    | one("wavlm, stable, padded", "WavLMForSequenceClassification", variant=", averaged", **AVERAGED)
    | one("dinov2, registers", "Dinov2WithRegistersForImageClassification")
    | one("swin", "SwinForImageClassification")
    | one("convnext v2", "ConvNextV2ForImageClassification")
    | one("mobilenet v2", "MobileNetV2ForImageClassification")
    | one("data2vec, audio", "Data2VecAudioForSequenceClassification", classifier_proj_size=20)
    | one("wavlm", "WavLMForSequenceClassification", classifier_proj_size=20)
    | one("wavlm", "WavLMForCTC", vocab_size=11)
    | one("vit", "ViTForImageClassification")
    | one("deit", "DeiTForImageClassification")
    | one("deit", "DeiTForImageClassificationWithTeacher")
    | one("dinov2", "Dinov2ForImageClassification")
    | one("resnet", "ResNetForImageClassification")
    | one("convnext", "ConvNextForImageClassification")
    | one("clip", "CLIPForImageClassification", IMAGE)
    | one("siglip", "SiglipForImageClassification", IMAGE)
    | one("bert", "BertForNextSentencePrediction")
    | one("wav2vec 2.0", "Wav2Vec2ForSequenceClassification", classifier_proj_size=20)
    | one("wav2vec 2.0, stable, padded", "Wav2Vec2ForSequenceClassification", variant=", averaged", **AVERAGED)
    | one("wav2vec 2.0, stable, padded", "Wav2Vec2ForCTC", vocab_size=11)
    | one("hubert, stable, padded", "HubertForSequenceClassification", classifier_proj_size=20)
    | one("hubert, stable, padded", "HubertForSequenceClassification", variant=", averaged", **AVERAGED)
    | one("hubert", "HubertForCTC", vocab_size=11)
    | one("whisper", "WhisperForAudioClassification", classifier_proj_size=20)
    | one("whisper", "WhisperForAudioClassification", variant=", averaged", **AVERAGED)
    | one("ast", "ASTForAudioClassification")
    | one("vivit", "VivitForVideoClassification")
    | one("timesformer", "TimesformerForVideoClassification")
)
