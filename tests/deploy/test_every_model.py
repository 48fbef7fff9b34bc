"""Every public model runs as an exported program with a free batch size, and its configuration is JSON."""

import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mmkd_jax import models
from mmkd_jax.core.model import Model, linen, predict
from mmkd_jax.deploy import module
from mmkd_jax.deploy.program import PLATFORMS, export_function, flat
from mmkd_jax.errors import UserError
from mmkd_jax.models import (
    Bert,
    Classifier,
    Clip,
    ClipText,
    Data2VecAudio,
    EfficientNetLite,
    Encoders,
    FactorizedBert,
    ImageMLP,
    MobileNetV2,
    Multimodal,
    Projection,
    SentenceHead,
    TaskHead,
    Vit,
)
from tests.models.test_every_model import CONFIG, FUSIONS, LENGTH, MODELS, ROUGH
from tests.models.test_every_model import batch as six_rows

BERT = {"text": Bert(9, CONFIG, length=LENGTH, types=0)}
VIT = Vit((6, 6), (3, 2), channels=1, config=CONFIG, mean=(0.5,), std=(0.5,))
MORE: dict[str, Any] = {
    "clip": Clip({"image": VIT, "text": ClipText(9, CONFIG, LENGTH, end=2)}, width=4, classes=3),
    "data2vec": Data2VecAudio((3,), (3,), (2,), reach=3, groups=2, config=ROUGH, position_layers=2),
    "factorized bert": FactorizedBert(9, CONFIG, 4, shared=True, length=LENGTH),
    "heads": Encoders(BERT, {"logits": TaskHead(3, width=4, activation="tanh"), "tags": TaskHead(2, read="tokens")}),
    "sentence": Encoders(BERT, {"embedding": SentenceHead(("mean", "cls"), (Projection(4), "normalize"))}),
    "scan": Bert(9, replace(CONFIG, num_layers=2, scan=True), length=LENGTH, types=0),
    "remat": Bert(9, replace(CONFIG, remat=True), length=LENGTH, types=0),
    "mobilenet": MobileNetV2(1, wide=0.1, mean=(0.5,), std=(0.5,)),
    "efficientnet": EfficientNetLite(0.1, 0.1),
}
SMALL = linen(Multimodal({"image": ImageMLP((4,))}, 3, 4))
FUNCTIONS: dict[str, Model] = {
    "expected": models.ExpectedValue(SMALL, range(3)),
    "simkd": models.simkd(SMALL, Classifier(3), width=5),
    "branches": models.branches({"one": SMALL, "two": SMALL}),
    "mlp": models.mlp("wave", (4, 3)),
}
SLOW = ("mobilenet", "efficientnet", "swin", "resnet", "convnext", "convnext v2", "timesformer", "wavlm", "deberta")
QUICK = ("audio tdnn", "vit", "expected")
NAMES = [*MODELS, *MORE, *FUNCTIONS]


def whole(name) -> Any:
    made = MORE.get(name) or MODELS[name]
    modality = {"data2vec": "wave", "mobilenet": "image", "efficientnet": "image"}.get(name, "text")
    return made if isinstance(made, Multimodal | Encoders | Clip) else Encoders({modality: made})


def eight_rows(name):
    rows = {k: np.concatenate([x, x[:2]]) for k, x in jax.device_get(six_rows()).items()}
    if name == "efficientnet":
        rows["image"] = np.repeat(rows["image"], 3, -1)
    return rows | {"example_id": np.arange(8, dtype=np.int32)}


def exported(name, platforms=("cpu",)):
    """The model, its variables and rows, and the program of its main outputs."""
    model, rows = FUNCTIONS.get(name) or linen(whole(name)), eight_rows(name)
    draw = np.random.default_rng(0)
    like = jax.eval_shape(model.init, jax.random.key(0), rows)
    variables = jax.tree.map(lambda x: jnp.asarray(draw.uniform(0.1, 0.5, x.shape), x.dtype), like)
    shapes = jax.eval_shape(lambda v, batch: predict(model, v, batch), like, rows)
    names = [n for n, x in shapes.items() if x.shape[:1] == (8,) and not n.startswith(("hidden.", "attention."))]
    assert names

    def run(flat_variables, batch):
        found = predict(model, jax.tree.unflatten(jax.tree.structure(variables), list(flat_variables.values())), batch)
        return {n: found[n] for n in names}

    spec = {k: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for k, x in rows.items()}
    return run, flat(variables), rows, export_function(run, flat(variables), spec, platforms)


def compare(name, sizes):
    run, variables, rows, made = exported(name)
    assert made.batch is None and not {"example_id", "label"} & {*made.inputs}
    call = export.deserialize(bytearray(made.program)).call
    both = jax.jit(lambda v, batch: (run(v, batch), call(v, {k: batch[k] for k in made.inputs})))
    for size in sizes:
        expected, found = both(variables, {k: x[:size] for k, x in rows.items()})
        for n, x in expected.items():
            np.testing.assert_allclose(found[n], x, rtol=1e-6, atol=1e-6, err_msg=f"{name}, {n}, {size} rows")


@pytest.mark.parametrize("name", QUICK)
def test_a_program_computes_what_the_model_does_for_any_number_of_rows(name):
    compare(name, (3,))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_program_computes_what_its_model_does_for_any_number_of_rows(name):
    compare(name, (1, 3, 8))


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n in NAMES if n not in (*QUICK, *SLOW, *FUSIONS)])
def test_every_model_is_exported_with_a_free_batch(name):
    assert exported(name)[-1].batch is None


def test_a_program_is_for_all_platforms_and_names_no_path_of_this_machine():
    made, again = (exported("image mlp", PLATFORMS)[-1] for _ in range(2))
    assert export.deserialize(bytearray(made.program)).platforms == PLATFORMS == made.platforms
    assert b".py" not in made.program and made.program == again.program


def test_every_class_of_a_model_is_described_in_json_and_built_again():
    classes: set[str] = set()

    def named(value):
        if isinstance(value, dict):
            classes.update([value["class"]] if "class" in value else [])
            for x in value.values():
                named(x)
        elif isinstance(value, list):
            for x in value:
                named(x)

    named(module.described(linen(Classifier(3))))
    heads = models.Heads({"topic": models.LinearHead({"topic": 3}), "grade": models.RankHead(4, "grade")})
    texts = models.TextBag(9, 4)
    ends = [
        Multimodal({"image": ImageMLP((4,))}, width=4, head=heads),
        models.Crf(models.Tagger({"text": texts}, tags=3)),
        models.BiEncoder(texts, query="question", document="answer", width=4),
        models.CrossEncoder(texts, query="question", document="answer"),
    ]
    for made in [*map(whole, [*MODELS, *MORE]), *ends]:
        found = module.described(linen(made))
        assert found is not None and module.built(json.loads(json.dumps(found))) == made
        named(found)
    assert classes == {*module.classes()}


def test_fusions_are_named_apart_from_models():
    assert not {*vars(models)} & {n for n, x in vars(models.fusion).items() if isinstance(x, type)}


def test_what_is_not_our_module_as_it_is_has_no_configuration():
    assert module.described(SMALL) and all(module.described(m) is None for m in FUNCTIONS.values())
    apply: Any = SMALL.apply
    assert module.described(SMALL._replace(apply=lambda *a: apply(*a))) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"class": "system", "fields": {}}, "a class 'system', which mmkd_jax.models lacks"),
        ({"class": "ImageMLP", "fields": {"parent": None}}, "a field 'parent'; it has: widths"),
        ({"class": "ImageMLP", "fields": {"widths": {"eval": "1"}}}, "an object of eval"),
        ({"class": "ImageMLP", "fields": None}, "is not valid"),
        ({"class": "ImageMLP", "fields": {"widths": [1]}}, "has a list; expected an object"),
        ({"class": "ImageMLP", "fields": {"widths": {"dtype": "object"}}}, "an object of dtype"),
    ],
)
def test_a_configuration_of_someone_else_is_refused(value, message):
    with pytest.raises(UserError, match=message):
        module.built(value)


def test_a_model_that_needs_the_number_of_rows_is_exported_with_a_fixed_one():
    def run(variables, batch):
        return {"y": batch["x"] * variables["w"] * len(batch["x"]) / int(batch["x"].shape[0])}

    row = jax.ShapeDtypeStruct((), np.dtype(np.float32))
    made = export_function(run, {"w": row}, {"x": row}, ("cpu",))
    assert made.batch == 32


def test_an_output_of_all_rows_together_is_refused():
    row = jax.ShapeDtypeStruct((2,), np.dtype(np.float32))
    for function in (lambda v, b: {"y": b["x"].sum()}, lambda v, b: {"y": b["x"] @ b["x"].T}):
        with pytest.raises(UserError, match="output 'y' has shape .* expected one row for each row of the batch"):
            export_function(function, {}, {"x": row}, ("cpu",))
