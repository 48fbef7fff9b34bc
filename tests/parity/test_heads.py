"""Heads of fine-tuned models against transformers' own PyTorch models, with the same weights: both ways."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from safetensors.torch import load_file, save_file

from mmkd_jax import pretrained
from mmkd_jax.errors import UserError
from tests.parity.cases import answer, gaps, quiet, reference, saved
from tests.parity.head_cases import CASES, NAMES

# a head of each kind; those that differ in names alone with the slow tests
COMMON = {
    "BertForSequenceClassification",
    "BertForPreTraining",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "DistilBertForSequenceClassification",
    "DistilBertForMaskedLM",
    "ElectraForMaskedLM",
    "AlbertForSequenceClassification",
    "DebertaV2ForSequenceClassification",
    "ModernBertForSequenceClassification, mean",
    "ModernBertForMaskedLM",
    "DeiTForImageClassificationWithTeacher",
    "Dinov2WithRegistersForImageClassification",
    "ResNetForImageClassification",
    "CLIPForImageClassification",
    "SiglipForImageClassification",
    "Wav2Vec2ForSequenceClassification, averaged",
    "Wav2Vec2ForCTC",
    "WhisperForAudioClassification, averaged",
    "ASTForAudioClassification",
    "TimesformerForVideoClassification",
}
# and in bfloat16 one of each computation: poolers, tied decoders, maps, two heads, frames, averaged layers
ROUGH = {
    "BertForPreTraining",
    "ModernBertForMaskedLM",
    "ResNetForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "Wav2Vec2ForCTC",
    "WhisperForAudioClassification, averaged",
}
EACH = [name if name in COMMON else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
SOME = [name if name in ROUGH else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.fixture(scope="module", params=EACH)
def pair(request, tmp_path_factory):
    case, folder = CASES[request.param], tmp_path_factory.mktemp("model")
    model = saved(case, folder)
    return case, folder, model, pretrained.load(folder)


def test_every_architecture_has_a_case():
    known = {name for architectures in pretrained.HEADS.values() for name in architectures if name}
    assert known == {name.partition(",")[0] for name in CASES}  # the one without a name is in test_real.py


def test_logits_agree_and_classes_have_their_names(pair):
    case, _, model, loaded = pair
    for name, (gap, size) in gaps(case, answer(loaded, case.batch), reference(model, case)).items():
        assert gap <= 2e-5 * max(1, size), name
    named = not any(word in type(model).__name__ for word in ("MaskedLM", "CTC", "PreTraining", "NextSentence"))
    assert loaded.labels == (tuple(NAMES.values()) if named else ())


@pytest.mark.parametrize("pair", SOME, indirect=True)
def test_logits_in_bfloat16_are_within_its_rounding(pair):
    case, folder, model, _ = pair
    rough = answer(pretrained.load(folder, dtype=jnp.bfloat16), case.batch)
    for n, (gap, size) in gaps(case, rough, reference(model, case)).items():
        assert 1e-5 < gap / max(1, size) <= 0.05, n
        assert rough[n].dtype == np.float32


def test_what_is_saved_is_read_by_transformers_with_equal_logits_and_names(pair, tmp_path):
    case, _, model, loaded = pair
    pretrained.save(tmp_path, loaded.kind, loaded.module, loaded.variables, labels=loaded.labels)
    with quiet():
        again, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    new = {k for k in report["missing_keys"] if not k.endswith("embeddings.mask_token")}  # made in any case
    assert not new and not report["unexpected_keys"]
    assert again.config.architectures == model.config.architectures
    if loaded.labels:
        assert again.config.id2label == NAMES and again.config.label2id == {x: i for i, x in NAMES.items()}
    for name, x in reference(again.eval(), case).items():
        np.testing.assert_array_equal(x, reference(model, case)[name], err_msg=name)


def test_scan_and_remat_change_rounding_alone(tmp_path):
    case = CASES["Wav2Vec2ForSequenceClassification, averaged"]
    saved(case, tmp_path)
    plain = answer(pretrained.load(tmp_path), case.batch)["logits"]
    other = answer(pretrained.load(tmp_path, scan=True, remat=True), case.batch)["logits"]
    np.testing.assert_allclose(other, plain, atol=1e-5)


def test_problem_types_are_those_of_transformers(tmp_path):
    case = CASES["BertForSequenceClassification"]
    saved(case, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for problem in ("regression", "multi_label_classification"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"problem_type": problem}))
        assert pretrained.load(tmp_path).module.heads["logits"].problem == problem
    (tmp_path / "config.json").write_text(json.dumps(config | {"problem_type": "ranking"}))
    with pytest.raises(UserError, match="problem_type='ranking'; expected one of: "):
        pretrained.load(tmp_path)


def test_a_head_of_one_number_is_a_prediction(tmp_path):
    config = CASES["BertForSequenceClassification"].make().config
    config.id2label = {0: "LABEL_0"}
    with quiet():
        transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    loaded = pretrained.load(tmp_path)
    found = answer(loaded, CASES["BertForSequenceClassification"].batch)
    assert loaded.module.heads["logits"].problem == "regression" and loaded.labels == ()
    np.testing.assert_array_equal(found["prediction"], found["logits"][:, 0])


@pytest.mark.parametrize(
    "architecture", ["BertForQuestionAnswering", "BertForMultipleChoice", "ViTForMaskedImageModeling"]
)
def test_other_heads_are_left_out_with_a_warning(architecture, tmp_path):
    base = "vit" if architecture.startswith("ViT") else "bert"
    config = CASES["ViTForImageClassification" if base == "vit" else "BertForMaskedLM"].make().config
    with quiet():
        getattr(transformers, architecture)(config).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=f"tensors of {architecture} are not supported and left out: "):
        loaded = pretrained.load(tmp_path)
    assert not loaded.module.heads
    pretrained.load(tmp_path, heads=False)


def test_a_head_that_is_missing_and_names_of_other_classes_are_refused(tmp_path):
    saved(CASES["BertForSequenceClassification"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(UserError, match="id2label with 2 names; the head has 3 classes"):
        pretrained.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: x for k, x in tensors.items() if not k.startswith("classifier")}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lack classifier.bias, which BertForSequenceClassification has.*heads=False"):
        pretrained.load(tmp_path)
    assert not pretrained.load(tmp_path, heads=False).module.heads


def test_wrapped_models_and_custom_heads(tmp_path):
    """DataParallel, torch.compile and a wrapper put prefixes before all names; a custom head is ignored by name."""
    case = CASES["BertForSequenceClassification"]
    model = saved(case, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for wrapper in ("module.", "model.", "module._orig_mod.model."):
        save_file({f"{wrapper}{k}": x for k, x in tensors.items()}, tmp_path / "model.safetensors")
        found = answer(pretrained.load(tmp_path), case.batch)["logits"]
        np.testing.assert_allclose(found, reference(model, case)["logits"], atol=2e-5)
    save_file(tensors | {"ranker.weight": tensors["classifier.weight"].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="unexpected: ranker.weight: fetch .*, or ignore= the unexpected ones"):
        pretrained.load(tmp_path)
    pretrained.load(tmp_path, ignore=[r"ranker\..*"])
    beside = {f"model.{k}": x for k, x in tensors.items()} | {"loss_fn.weight": tensors["classifier.bias"].clone()}
    save_file(beside, tmp_path / "model.safetensors")
    pretrained.load(tmp_path, ignore=[r"loss_fn\..*"])
    with pytest.raises(UserError, match=r"ignore=\['\('\]; expected a list of regular expressions"):
        pretrained.load(tmp_path, ignore=["("])
