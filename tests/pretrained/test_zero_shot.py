"""Zero-shot classifiers as teachers, and models that read an input under another name."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses, pretrained
from mmkd_jax.core.model import predict
from mmkd_jax.core.objective import combine, term
from mmkd_jax.data.images import Pictures
from mmkd_jax.data.tokenizer import optional
from mmkd_jax.errors import UserError
from mmkd_jax.experiment.definition import check
from mmkd_jax.pretrained.clip import Both
from mmkd_jax.pretrained.prompts import _texts
from mmkd_jax.tasks import classification
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.pretrained import small_encoders

TEXTS = ["a cat", "a dog", "a sad owl"] * 2
PROMPTS = {"cat": "a cat", "dog": ["a dog", "a sad dog"], "owl": ["a sad owl"]}
PIXELS = np.random.default_rng(0).integers(0, 256, (6, *small_encoders.SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def loaded():
    module = small_encoders.siglip(**small_encoders.SMALL)
    words = data.train_tokenizer(TEXTS, small_encoders.WORDS, small_encoders.LENGTH)
    words.whole = True
    variables = small_encoders.drawn(module)
    return pretrained.Pretrained(module, variables, Both(words, Pictures(size=small_encoders.SIDE), {}), "siglip")


@pytest.fixture(scope="module")
def classifier(loaded):
    return pretrained.zero_shot(loaded, PROMPTS)


def loader(name="image", classes=(), **columns):
    columns = {name: PIXELS, "label": np.arange(6, dtype=np.int32) % 3, **columns}
    return data.InMemory(data.from_columns(columns, "made up", classes), 3)


def evaluation(model, rows):
    return Training.evaluation(model, classification(3), rows, rows)


def logits(model, variables, rows):
    return np.asarray(jax.jit(lambda v, b: predict(model, v, b)["logits"])(variables, rows.dataset.columns))


def test_it_is_a_teacher_whose_classes_are_matched_with_the_data_s(classifier):
    order = [2, 0, 1]
    named = evaluation(Frozen(classifier), loader(classes=[classifier.labels[i] for i in order]))
    assert classifier.labels == ("cat", "dog", "owl")
    found = logits(classifier.model, classifier.variables, loader())
    assert np.ptp(found, axis=1).min() > 1e-3
    np.testing.assert_array_equal(logits(named.networks["teacher"], classifier.variables, named.data), found[:, order])


def test_other_prompts_are_other_variables_of_the_same_program(loaded, classifier):
    other = pretrained.zero_shot(loaded, {"cat": "a sad cat", "dog": "dog dog", "owl": "owl"})
    programs = {evaluation(x, loader()).program("teacher") for x in (classifier, other)}
    assert len(programs) == 1
    assert Trained(classifier).sources("m").keys() == {
        f"m.params.{k}" for k in ("encoders_image", "logit_scale", "logit_bias", "class_embeddings")
    }
    embeddings = [x.variables["params"]["class_embeddings"] for x in (classifier, other)]
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-3
    for x in embeddings:
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-6)


def test_many_prompts_are_embedded_in_batches(loaded, monkeypatch):
    whole = pretrained.zero_shot(loaded, PROMPTS).variables["params"]["class_embeddings"]
    monkeypatch.setattr("mmkd_jax.pretrained.prompts._ROWS", 3)  # 4 prompts: the second batch has one of them
    split = pretrained.zero_shot(loaded, PROMPTS).variables["params"]["class_embeddings"]
    np.testing.assert_allclose(split, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({}, r"prompts=\{\}; expected names of classes -> prompts"),
        (["a cat"], r"prompts=\['a cat'\]; expected names of classes -> prompts"),
        ({"cat": []}, r"prompts of class 'cat': \[\]; expected a text, or a list of texts"),
        ({"cat": " "}, "prompts of class 'cat': ' '; expected a text"),
        ({"cat": ["a cat", 3]}, "prompts of class 'cat': .*3.*; expected a text"),
        ({3: "a cat"}, "prompts has a class named 3; expected a text"),
        ({"": "a cat"}, "prompts has a class named ''; expected a text"),
        ({"cat": "a photo", "dog": ["a photo"]}, r"classes 'cat' and 'dog' have the same prompts, .*: change one"),
    ],
)
def test_what_are_no_prompts_is_named(prompts, said, loaded):
    with pytest.raises(UserError, match=said):
        _texts(prompts)  # the type checks of the tests would be first
    if isinstance(prompts, dict) and not prompts:
        with pytest.raises(UserError, match=said):
            pretrained.zero_shot(loaded, prompts)


def test_longer_texts_are_truncated_with_a_warning(loaded):
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 5 tokens, first in row 1: they are truncated"):
        pretrained.zero_shot(loaded, {"cat": "a cat", "owl": "a sad sad sad sad owl"})


def test_what_is_no_dual_encoder_is_refused(loaded, classifier, tmp_path):
    module = small_encoders.bert(**small_encoders.SMALL)
    bert = pretrained.Pretrained(module, {"params": {}}, loaded.processor.text, "bert")
    tower = loaded.module.clone(encoders={"image": loaded.module.encoders["image"]}, scaled=False)
    for wrong in (bert, loaded._replace(module=tower), classifier):
        with pytest.raises(UserError, match="a model of kind '.*', which reads .*; expected CLIP or SigLIP with both"):
            pretrained.zero_shot(wrong, PROMPTS)
    with pytest.raises(UserError, match="has no tokenizer.json"):
        absent = Both(optional(tmp_path, 5, 0), loaded.processor.image, {})
        pretrained.zero_shot(loaded._replace(processor=absent), PROMPTS)
    with pytest.raises(UserError, match="zero_shot needs the tokenizer of the model"):
        pretrained.zero_shot(loaded._replace(processor=loaded.processor.image), PROMPTS)
    with pytest.raises(UserError, match="a zero-shot classifier has no config.json: save the model"):
        pretrained.save(tmp_path, classifier.kind, classifier.module, classifier.variables)


def test_teacher_and_student_read_one_photo_in_different_sizes(loaded, classifier):
    """The raw column is read twice; names in the batch are those of the processors, names of outputs the model's."""
    photos = np.random.default_rng(1).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    raw = data.from_columns({"photo": photos, "label": np.arange(6, dtype=np.int32) % 3}, "made up")
    teacher = pretrained.with_inputs(classifier, image="teacher_image")
    once = data.process(raw, teacher.processor, "photo", remove=False)
    rows = data.InMemory(data.process(once, Pictures(size=small_encoders.SIDE, resample=0), "photo"), 3)
    assert {"image", "teacher_image"} < rows.spec.keys() and "photo" not in rows.spec
    alone = data.InMemory(data.process(raw, classifier.processor, "photo"), 3)
    found = logits(teacher.model, teacher.variables, rows)
    np.testing.assert_array_equal(found, logits(classifier.model, classifier.variables, alone))
    assert np.abs(found - logits(classifier.model, classifier.variables, rows)).max() > 1e-3
    training = Training(
        models={"student": Trained(classifier), "teacher": Frozen(teacher, cache=("logits",))},
        objective=combine(soft=term(losses.kl, student="student.logits", teacher="teacher.logits")),
        optimizer=optax.sgd(0.1),
        task=classification(3),
        data=rows,
        validation=rows,
        test=rows,
        steps=1,
    )
    assert check({"kd": training}, {})
    with pytest.raises(UserError, match="the batch has no modality 'teacher_image'"):
        evaluation(teacher, alone).outputs("teacher")


def test_the_names_of_both_inputs_are_those_of_the_processors(loaded):
    both = pretrained.with_inputs(loaded, image="photo", text="caption")
    again = pretrained.with_inputs(both, image="image")
    assert both.inputs == {"image": "photo", "text": "caption"} and again.inputs == {"text": "caption"}
    batch = both.processor(["a cat"], PIXELS[:1]) | {"example_id": np.zeros(1, np.int32)}
    assert batch.keys() == {"caption.ids", "caption.mask", "photo", "example_id"}
    processor: Any = again.processor
    assert processor.image.modality == "image" and loaded.processor.text.modality == "text"
    classes = [pretrained.zero_shot(x, PROMPTS) for x in (loaded, both)]
    np.testing.assert_array_equal(*(x.variables["params"]["class_embeddings"] for x in classes))
    assert classes[1].inputs == {"image": "photo"} and classes[1].processor is both.processor.image
    for inputs, said in [
        ({"audio": "sound"}, "audio: the model reads image, text|audio: the model reads text, image"),
        ({"image": ""}, "expected a name of each input, all different"),
        ({"image": "text"}, "expected a name of each input, all different"),
    ]:
        with pytest.raises(UserError, match=said):
            pretrained.with_inputs(loaded, **inputs)
