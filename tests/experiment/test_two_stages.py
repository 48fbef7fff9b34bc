"""Adapters, prompts and frozen trunks in experiments: results are whole models, that are exported and trained on."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest

import mmkd_jax as mmkd
from mmkd_jax import cli, files
from mmkd_jax.deploy import load
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, runner
from mmkd_jax.training import Interrupted

EXPERIMENT = """
import dataclasses

import numpy as np
import optax

import mmkd_jax as mmkd
from mmkd_jax.models import Bert, Encoders, TransformerConfig, Vit


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1
    steps: int = 4
    rank: int = 2
    more: bool = False


config = Config()
CLASSES = ("no", "yes")


def trainings(config):
    draw, label = np.random.default_rng(0), (np.arange(16) % 2).astype(np.int32)
    columns = {"text.ids": draw.integers(0, 9, (16, 6)).astype(np.int32), "text.mask": np.ones((16, 6), bool)}
    columns |= {"label": label, "target": draw.normal(size=16).astype(np.float32)}
    columns["image"] = draw.random((16, 4, 4, 3), np.float32)
    rows = mmkd.data.from_columns(columns, "made-up", classes=CLASSES)
    small = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
    module = Encoders({"text": Bert(9, small, length=9, pooler=True)})
    loaded = mmkd.pretrained.Pretrained(module, mmkd.pretrained.initial(module), lambda texts: {}, "bert")
    tuned = mmkd.pretrained.with_head(loaded, CLASSES)
    prompted = mmkd.pretrained.with_prompts(tuned, 3)
    module = Encoders({"image": Vit((4, 4), (2, 2), config=small)})
    loaded = mmkd.pretrained.Pretrained(module, mmkd.pretrained.initial(module), None, "vit")
    pictures = mmkd.pretrained.with_prompts(mmkd.pretrained.with_head(loaded, CLASSES), 3)
    task, data = mmkd.tasks.classification(2), mmkd.data.InMemory(rows, 16)
    shared = {"optimizer": optax.adam(1e-2), "task": task, "data": data, "validation": data, "test": data}
    shared |= {"steps": config.steps, "evaluate_every": 2, "save_every": 2, "select": "last"}

    def stage(model, source, **more):
        role = mmkd.Trained(model, init_from=source)
        return mmkd.Training({"student": role}, mmkd.combine(task=task.objective()), **(shared | more))

    adapted = mmkd.models.low_rank(tuned.model, config.rank)
    learned = mmkd.models.frozen_except(prompted.model, ("encoders_text.prompts", "heads_logits"))
    seen = mmkd.models.frozen_except(pictures.model, ("encoders_image.prompts", "heads_logits"))
    head = mmkd.models.frozen_except(tuned.model, "heads_logits")
    two = {"adapted": stage(adapted, tuned.source), "second": stage(head, "adapted.student")}
    return two | (
        {
            "prompted": stage(learned, prompted.source),
            "again": stage(adapted, "second.student"),
            "pictures": stage(seen, pictures.source),
        }
        if config.more
        else {}
    )
"""


def command(*words, code=0):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words)])
    assert ended.value.code == code


def ran(folder, more):
    """The folder of a run, and its trainings."""
    (folder / "texts.py").write_text(EXPERIMENT)
    command("run", folder / "texts.py", "--out", folder / "run", *["--more"] * more)
    experiment = definition.load(folder / "texts.py")
    return folder / "run", experiment.trainings(dataclasses.replace(experiment.config, more=more))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("two"), False)


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("four"), True)


def result(run, name):
    return mmkd.experiment.load_variables(run[0], run[1][name], name)["student"]


def named(tree):
    return {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in jax.tree.leaves_with_path(tree)}


def changed(before, after):
    """Dotted paths of the variables that differ."""
    a, b = named(before), named(after)
    assert a.keys() == b.keys()
    return {name for name in a if not np.array_equal(a[name], b[name])}


LAYER, HEAD = "params.encoders_text.transformer.layer_0", "params.heads_logits.out"
ADAPTED = {f"{LAYER}.query.kernel", f"{LAYER}.value.kernel"}


def test_results_are_whole_models_of_which_only_what_is_trained_has_changed(run):
    first, second = result(run, "adapted"), result(run, "second")
    given = run[1]["adapted"].init_from["student.params.encoders_text"]
    before = {"params": {**first["params"], "encoders_text": getattr(given, "variables", None)}}
    assert changed(before, first) == ADAPTED
    assert changed(first, second) == {f"{HEAD}.bias", f"{HEAD}.kernel"}


@pytest.mark.full
def test_a_whole_model_is_adapted_again_and_prompts_are_trained_alone(longer):
    second, again, prompted = (result(longer, n) for n in ("second", "again", "prompted"))
    assert changed(second, again) == ADAPTED | {f"{HEAD}.bias", f"{HEAD}.kernel"}
    given = longer[1]["prompted"].init_from["student.params.encoders_text"]
    assert changed(getattr(given, "variables", None), prompted["params"]["encoders_text"]) == {"prompts"}
    is_used(longer, "prompted")
    command("export", longer[0], "prompted", "--to", "onnx")


@pytest.mark.full
def test_prompts_of_an_image_are_trained_alone_and_exported(longer, capsys):
    pictures, given = result(longer, "pictures"), longer[1]["pictures"].init_from["student.params.encoders_image"]
    assert changed(getattr(given, "variables", None), pictures["params"]["encoders_image"]) == {"prompts"}
    is_used(longer, "pictures", ("image",))
    for form in ("stablehlo", "onnx"):
        command("export", longer[0], "pictures", "--to", form)
    command("export", longer[0], "pictures", "--to", "hf", code=2)
    assert "does not describe an encoder with prompts=3" in capsys.readouterr().err


def is_used(run, name, columns=("text.ids", "text.mask")):
    """The student has the variables of the whole model alone, and its outputs."""
    folder, trainings = run
    student, whole, training = load(folder, name), result(run, name), trainings[name]
    assert set(student.signature["variables"]["names"]) == set(named(whole))
    assert student.signature["parameters"] == sum(x.size for x in jax.tree.leaves(whole["params"]))
    batch = next(iter(training.test.eval_batches()))
    predicted = student.predict({k: batch[k] for k in columns})
    outputs = training.merged.run("student")(whole, batch)
    np.testing.assert_allclose(predicted.outputs["logits"], outputs["logits"], 1e-5, 1e-5)


def test_the_student_is_the_whole_model_alone(run):
    is_used(run, "adapted")


def test_a_folder_for_transformers_holds_merged_weights(run):
    folder, _ = run
    command("export", folder, "adapted", "--to", "hf")
    again = mmkd.pretrained.load(folder / "exports" / "adapted-0-hf")
    assert changed(again.variables, result(run, "adapted")) == set()


@pytest.mark.full
def test_every_export_holds_merged_weights_and_has_their_costs(longer, capsys):
    folder, _ = longer
    for form in ("stablehlo", "onnx", "safetensors"):
        command("export", folder, "adapted", "--to", form)
    command("export", folder, "adapted", "--to", "stablehlo", "--int8", "--tolerance", 100, "--out", folder / "int8")
    command("export", folder, "prompted", "--to", "hf", code=2)
    assert "does not describe an encoder with prompts=3" in capsys.readouterr().err
    command("measure", folder, "--batch", 1, "--calls", 1)
    costs = files.read_json(folder / "measure.json")["trainings"]
    assert costs["adapted"]["parameters"] == costs["second"]["parameters"] < costs["prompted"]["parameters"]


def test_explain_shows_what_is_trained(run):
    said = mmkd.experiment.explain(definition.Experiment("texts", Once(), lambda config: run[1]))
    lines = [x for x in said.splitlines() if "model       student" in x]
    assert " 82 trained (" in lines[0] and " 18 trained (" in lines[1]
    assert "  trains      student: " in said and "query.kernel (rank " in said
    assert "from adapted.student" in lines[1] and "random" not in lines[1]


@dataclasses.dataclass(frozen=True)
class Once:
    seeds: int = 1


@pytest.mark.full
def test_a_run_that_is_interrupted_ends_with_the_same_bits(run, tmp_path):
    folder, trainings = run
    experiment = definition.Experiment("texts", Once(), lambda config: {"adapted": trainings["adapted"]})
    options, calls = runner.RunOptions(out=tmp_path / "run"), []
    stopped = runner.Callbacks(should_stop=lambda: calls.append(0) or len(calls) == 3)
    with pytest.raises(Interrupted):
        runner.run(experiment, options=options, callbacks=stopped)
    runner.run(experiment, options=options)
    here, there = (f / "trainings" / "adapted" / "0" for f in (tmp_path / "run", folder))
    assert (here / "variables.safetensors").read_bytes() == (there / "variables.safetensors").read_bytes()
    first, second = (files.read_json(f / "result.json") for f in (here, there))
    assert first["identity"] == second["identity"]


@pytest.mark.full
def test_another_rank_is_another_program(run):
    folder, _ = run
    experiment = definition.load(folder.parent / "texts.py")
    other = dataclasses.replace(experiment.config, rank=3)
    with pytest.raises(UserError, match="has other trainings under these names: 'adapted'"):
        runner.run(experiment, other, options=runner.RunOptions(out=folder))


def test_frozen_parameters_that_nothing_has_trained_are_refused(run):
    """A head, trained on an encoder that is random and stays so → refused by name before the first step."""
    training = run[1]["second"]
    role = dataclasses.replace(training.models["student"], init_from=None)
    with pytest.raises(UserError, match="'student' has frozen parameters that were never trained: encoders_text"):
        definition.check({"second": dataclasses.replace(training, models={"student": role})}, {})


def plain_net():
    return mmkd.linen(mmkd.models.Multimodal({"image": mmkd.models.ImageMLP((8,))}, 3, 4))


def regression_stages():
    """Features by distillation from a teacher's, then a head of one number on them, frozen."""
    draw = np.random.default_rng(0)
    columns = {"image": draw.normal(size=(32, 2, 3, 1)).astype(np.float32)}
    columns["target"] = columns["image"].sum((1, 2, 3))
    rows = mmkd.data.from_columns(columns, "sums")
    data, task = mmkd.data.InMemory(rows, 16), mmkd.tasks.regression("target")
    net = mmkd.models.ExpectedValue(plain_net(), (-2, 0, 2))
    head = mmkd.models.frozen_except(net, ("Dense_0", "Classifier_0"))
    shared: dict[str, Any] = {"optimizer": optax.adam(1e-2), "task": task, "data": data, "validation": data}
    shared |= {"test": data, "steps": 4, "evaluate_every": 4, "select": "last"}
    close = mmkd.term(mmkd.losses.hint, student="student.features.image", teacher="teacher.features.image")
    return {
        "first": mmkd.Training(
            {"student": mmkd.Trained(net), "teacher": mmkd.Frozen(net, random=True)},
            mmkd.combine(close=close),
            **shared,
        ),
        "second": mmkd.Training(
            {"student": mmkd.Trained(head, init_from="first.student")}, mmkd.combine(task=task.objective()), **shared
        ),
    }


@pytest.mark.full
def test_a_head_of_one_number_on_distilled_features(tmp_path):
    """Both ways to write it: the expected value of the frozen model, or the frozen model of the expected value."""
    stages = regression_stages()
    scale = mmkd.models.ExpectedValue(mmkd.models.frozen_except(plain_net(), ("Dense_0", "Classifier_0")), (-2, 0, 2))
    other = dataclasses.replace(stages["second"], models={"student": mmkd.Trained(scale, init_from="first.student")})
    experiment = definition.Experiment("sums", Once(), lambda config: {**stages, "other": other})
    runner.run(experiment, options=runner.RunOptions(out=tmp_path))
    first, second, third = (mmkd.experiment.load_variables(tmp_path, stages["first"], n)["student"] for n in (
        "first", "second", "other"))  # fmt: skip
    assert changed(first, second) == {
        f"params.{n}Dense_0.{k}" for n in ("Classifier_0.", "") for k in ("bias", "kernel")
    }
    assert not changed(second, third)
    student, rows = load(tmp_path, "other"), stages["first"].data.dataset.columns["image"]
    expected = stages["first"].run("student")(third, {"image": rows, "example_id": np.arange(32)})["prediction"]
    np.testing.assert_allclose(student.predict({"image": rows}).prediction, expected, 1e-5, 1e-5)
