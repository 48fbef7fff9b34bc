"""Pretrained models in a training: heads, classes matched by name, a frozen model's row in the table."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses, pretrained
from mmkd_jax.core.ensemble import ensemble
from mmkd_jax.core.model import Taps, linen, plain, predict, with_input
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import runner, saved
from mmkd_jax.experiment.definition import Experiment, check, explain
from mmkd_jax.models import Bert, Encoders, SentenceHead, TaskHead, TransformerConfig
from mmkd_jax.tasks import classification
from mmkd_jax.training import class_names
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen, MovingAverage, Trained
from mmkd_jax.training.training import Training

BERT = Bert(9, TransformerConfig(embed_dim=4, num_layers=1, num_heads=2, mlp_dim=6), length=5, pooler=True)
QUIET = runner.Callbacks(log=lambda line: None)
IDS = np.random.default_rng(0).integers(1, 9, (12, 5)).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 2


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A classifier that anyone may have published: an encoder, a head, and the names of its classes."""
    folder, encoder = tmp_path_factory.mktemp("bert"), Encoders({"text": BERT})
    bare = pretrained.Pretrained(encoder, pretrained.initial(encoder, jax.random.key(3)), lambda texts: {}, "bert")
    tuned = pretrained.with_head(bare, ("joy", "fear", "anger"))
    values = jax.tree.map(lambda x: 3 * x, pretrained.initial(tuned.module, jax.random.key(4)))
    bias = values["params"]["heads_logits"]["out"]
    bias["bias"] = -answers(tuned._replace(variables=values)).mean(0)  # so that each class is the answer for some row
    pretrained.save(folder, tuned.kind, tuned.module, values, labels=tuned.labels)
    return pretrained.load(folder)


def rows(labels, classes=()):
    columns = {"text.ids": IDS, "text.mask": np.ones(IDS.shape, bool), "label": np.asarray(labels, np.int32)}
    return data.InMemory(data.from_columns(columns, "made up", classes), 6)


def answers(loaded):
    return np.asarray(loaded.model.apply(loaded.variables, batch(rows(np.zeros(12))), context(), {})[0]["logits"])


def batch(loader):
    return loader.dataset.columns


def context():
    from mmkd_jax.core.model import StepContext

    return StepContext(0, jax.random.key(0), train=False)


def evaluation(model, loader, classes):
    return Training.evaluation(model, classification(classes), loader, loader)


def accuracy(tmp_path, training):
    experiment = Experiment("evaluation", Config(), lambda config: {"teacher": training}, "teacher")
    options = runner.RunOptions(out=tmp_path)
    return [r["accuracy"] for r in runner.run(experiment, options=options, callbacks=QUIET)["teacher"]]


@pytest.mark.parametrize("classes", [(), ("joy", "fear", "anger"), ("anger", "joy", "fear"), ("fear", "anger")])
def test_a_frozen_model_is_a_row_with_its_classes_in_the_order_of_the_data(classes, loaded, tmp_path):
    """Labels are the teacher's own answers, in the data's order: it is right about all rows, for each seed."""
    order = [loaded.labels.index(c) for c in classes or loaded.labels]
    loader = rows(answers(loaded)[:, order].argmax(1), classes)
    found = accuracy(tmp_path, evaluation(loaded, loader, len(order)))
    assert found == [1.0, 1.0]
    assert len(set(np.asarray(batch(loader)["label"]).tolist())) > 1


def test_a_frozen_model_has_one_result_beside_a_trained_one_of_each_seed(tmp_path):
    """No spread and no steps: no seed changes it. The difference is that to each seed of the student."""
    loader = rows(np.arange(12) % 3)
    teacher = Frozen(plain(lambda _, batch: {"logits": jax.nn.one_hot(batch["label"], 3)}))
    student = plain(
        lambda w, batch: {"logits": w[None] * jnp.ones((6, 1))}, lambda key, _: jax.random.normal(key, (3,))
    )
    task = classification(3)
    models = {"student": Trained(student)}
    labels = Training(models, task.objective(), optax.sgd(0.0), task, loader, loader, loader, steps=2)
    trainings = {"teacher": Training.evaluation(teacher, task, loader, loader), "labels": labels}
    experiment = Experiment("both", Config(), lambda config: trainings, "labels")
    results = runner.run(experiment, options=runner.RunOptions(out=tmp_path), callbacks=QUIET)
    assert [len(seeds) for seeds in results.values()] == [2, 2]
    table = (tmp_path / "table.md").read_text()
    assert "| teacher | 100.0 | 1 | +66.7 ± 0.0 |" in table and "| labels | 33.3 ± 0.0 | 2 |" in table
    assert "steps" not in table
    again = runner.run(experiment, options=runner.RunOptions(out=tmp_path), callbacks=QUIET)
    assert again == results and (tmp_path / "table.md").read_text() == table
    tuned = dataclasses.replace(teacher, init_from="labels.student")
    assert not Training.evaluation(tuned, task, loader, loader).same_for_all_seeds


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("joy", "surprise"), "the classes of 'teacher' are joy, fear, anger, those of the data joy, surprise"),
        (("joy", "calm"), "the classes of 'teacher' are joy, fear, anger, those of the data joy, calm"),
    ],
)
def test_other_classes_are_refused_with_both_lists_where_logits_are_read(classes, said, loaded):
    loader = rows(np.zeros(12), classes)
    with pytest.raises(UserError, match=said):
        check({"teacher": evaluation(loaded, loader, 2)}, {})
    student = Trained(linen(pretrained.with_head(loaded, (*classes[:1], "other")).module))
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    with pytest.raises(UserError, match=said):
        check({"kd": distilled(student, Frozen(loaded), soft, loader)}, {})
    hint = term(losses.mse, predictions="student.features.text", targets="teacher.features.text")
    assert check({"hint": distilled(student, Frozen(loaded), hint, loader)}, {})


def distilled(student, teacher, objective, loader, **more):
    classes = len(loader.dataset.about.get("classes", ())) or 2
    return Training(
        models={"student": student, "teacher": teacher},
        objective=combine(soft=objective),
        optimizer=optax.sgd(0.1),
        task=classification(classes),
        data=loader,
        validation=loader,
        test=loader,
        steps=2,
        **more,
    )


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("multi_label_classification", r"logits of 'teacher' are independent \(multi_label_classification\)"),
        ("regression", "logits of 'teacher' are a regression, the task has one label per row"),
    ],
)
def test_logits_of_another_problem_are_refused_where_they_are_read(problem, said, loaded):
    """A softmax of independent logits has a value, which is not what the teacher says."""
    other = pretrained.with_head(loaded, loaded.labels, problem=problem)._replace(variables=loaded.variables)
    loader = rows(np.zeros(12), loaded.labels)
    with pytest.raises(UserError, match=said):
        check({"teacher": evaluation(other, loader, 3)}, {})
    student = Trained(linen(pretrained.with_head(loaded, loaded.labels).module))
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    with pytest.raises(UserError, match=said):
        check({"kd": distilled(student, Frozen(other), soft, loader)}, {})
    with pytest.raises(UserError, match=said):
        check({"kd": distilled(student, Frozen(other, cache=("logits",)), soft, loader)}, {})
    hint = term(losses.mse, predictions="student.features.text", targets="teacher.features.text")
    assert check({"hint": distilled(student, Frozen(other), hint, loader)}, {})
    meant = Frozen(other.model._replace(problem=""), init_from=PretrainedVariables(other.variables))
    assert check({"kd": distilled(student, meant, soft, loader)}, {})
    with pytest.raises(UserError, match="ensemble: the logits of one, two are of different problems"):
        ensemble({"one": loaded.model, "two": other.model})


def test_a_width_mismatch_says_that_the_teacher_is_a_regression(loaded):
    """The loss fails first, as the widths differ; its message alone would not say why."""
    one = pretrained.with_head(loaded, ("score",), problem="regression")
    one = one._replace(variables=pretrained.initial(one.module))
    student = Trained(linen(pretrained.with_head(loaded, loaded.labels).module))
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    with pytest.raises(UserError, match="logits of 'teacher' are a regression"):
        check({"kd": distilled(student, Frozen(one), soft, rows(np.zeros(12)))}, {})


def test_a_head_of_another_size_is_refused(loaded):
    with pytest.raises(UserError, match=r"'logits' has shape \[\d+, 3\], for 4 classes"):
        check({"teacher": evaluation(loaded, rows(np.zeros(12)), 4)}, {})


def test_a_pretrained_model_is_trained_from_all_its_variables_and_a_new_head_from_random_ones(loaded):
    assert Trained(loaded).sources("m").keys() >= {"m.params.encoders_text", "m.params.heads_logits"}
    tuned = pretrained.with_head(loaded, ("no", "yes"))
    assert Trained(tuned).sources("m").keys() == {"m.params.encoders_text"}
    with pytest.raises(UserError, match=r"params.heads_logits.out.bias has nothing, expected \[2\]"):
        check({"teacher": evaluation(tuned, rows(np.zeros(12)), 2)}, {})
    assert pretrained.init_from(loaded).keys() == {"params.encoders_text"}
    given = PretrainedVariables(loaded.variables)
    assert Frozen(loaded, init_from=given).sources("m") == {"m": given}


def test_the_evaluated_model_is_not_cached(loaded):
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    cached = Frozen(loaded, cache=("logits",))
    with pytest.raises(UserError, match="evaluate is 'teacher', whose outputs are cached"):
        distilled(Trained(loaded), cached, soft, rows(np.zeros(12)), evaluate="teacher")
    assert not evaluation(cached, rows(np.zeros(12)), 3).cache


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ("no", "no")}, "labels=.*; expected the names of the classes, each once"),
        (
            {"architecture": "BertForRanking"},
            "'BertForRanking': kind 'bert' has: BertForSequenceClassification, BertFor",
        ),
        ({"architecture": "BertForMaskedLM"}, "architecture 'BertForMaskedLM': kind 'bert' has: "),
        (
            {"architecture": "BertForTokenClassification", "problem": "regression"},
            "TokenClassification has one problem, 'single",
        ),
        ({"problem": "ranking"}, "problem_type='ranking'"),
    ],
)
def test_a_head_that_no_architecture_has(change, said, loaded):
    with pytest.raises(UserError, match=said):
        pretrained.with_head(loaded, **{"labels": ("no", "yes")} | change)


def test_save_names_what_it_lacks(loaded, tmp_path):
    tuned = pretrained.with_head(loaded, ("no", "yes"))
    with pytest.raises(UserError, match="variables lack params.heads_logits"):
        pretrained.save(tmp_path, tuned.kind, tuned.module, tuned.variables)
    with pytest.raises(UserError, match="2 labels, no, yes, for a head with 3 classes"):
        pretrained.save(tmp_path, loaded.kind, loaded.module, loaded.variables, labels=("no", "yes"))
    with pytest.raises(UserError, match="labels no, yes: the module has no head"):
        pretrained.save(tmp_path, "bert", Encoders({"text": BERT}), loaded.variables, labels=("no", "yes"))


def test_explain_names_the_classes_that_a_teacher_is_asked_for(loaded):
    loader = rows(np.zeros(12), ("anger", "joy"))
    experiment = Experiment("mine", Config(), lambda config: {"teacher": evaluation(loaded, loader, 2)}, "teacher")
    assert "logits of anger, joy (of 3 classes)" in explain(experiment)


def test_names_follow_a_model_into_later_trainings_and_ensembles(loaded):
    """The names of a tuned model's classes are part of its `model`; members of an ensemble have the same ones."""
    tuned = pretrained.with_head(loaded, ("joy", "fear", "anger"))
    later = Frozen(tuned.model, init_from="tune.teacher")
    assert later.labels == Frozen(tuned, init_from="tune.teacher").labels == tuned.labels
    assert with_input(tuned.model, lambda batch, ctx: batch).labels == tuned.labels
    other = pretrained.with_head(loaded, ("anger", "fear", "joy"))
    assert ensemble({"one": tuned.model, "two": loaded.model}).labels == loaded.labels
    with pytest.raises(UserError, match="ensemble: one, two have other classes, or in another order"):
        ensemble({"one": tuned.model, "two": other.model})


@pytest.mark.parametrize("labels", [("joy", "fear"), ("joy", "fear", "anger", "calm")])
def test_as_many_names_as_logits(labels, loaded):
    with pytest.raises(UserError, match=rf"{len(labels)} labels, joy, fear.*, for logits of 3 classes"):
        check({"teacher": evaluation(Frozen(loaded, labels=labels), rows(np.zeros(12), ("joy", "fear")), 2)}, {})


def test_names_of_classes_are_unique(loaded):
    with pytest.raises(UserError, match="labels=.*; expected the names of the classes, each once"):
        Frozen(loaded, labels=("joy", "joy", "fear"))
    with pytest.raises(UserError, match="labels='cat'; expected the names of the classes"):
        pretrained.with_head(loaded, "cat")
    with pytest.raises(UserError, match="classes=.*; expected the names of the classes, each once"):
        rows(np.zeros(12), ("joy", "joy"))


MISTAKES = {
    "mmkd.Frozen(loaded, labels={'joy': 0})": "Frozen: labels={'joy': 0}; expected the names of the classes",
    "mmkd.Frozen(loaded.module)": "Frozen: model is a Encoders; expected a Model",
    "mmkd.pretrained.with_head(loaded, 3)": "labels=3; expected the names of the classes",
    "mmkd.pretrained.zero_shot('clip', {'a': 'b'})": "zero_shot: str; expected a pretrained model",
    "mmkd.pretrained.save('x', 'bert', loaded.model, {})": "save: module is Model; expected that of a pretrained model",
    "mmkd.tasks.classification(('no', 'yes'))": "classification: classes=('no', 'yes'); expected their number",
    "mmkd.ensemble([loaded])": "ensemble: 'models' is list; expected name -> Model",
    "mmkd.ensemble({'one': loaded})": "ensemble: 'one' is Pretrained; expected name -> Model",
    "mmkd.with_input(loaded, lambda batch, ctx: batch)": "with_input: Pretrained; expected a Model",
}


def test_values_of_other_types_are_one_line():
    """As a user sees them, without the type checks of the tests."""
    code = (
        "import mmkd_jax as mmkd\n"
        "loaded = mmkd.pretrained.Pretrained(mmkd.models.Encoders({'text': mmkd.models.Bert(9)}), {}, None, 'bert')\n"
        f"for call in {list(MISTAKES)}:\n"
        "    try: eval(call)\n"
        "    except mmkd.UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(MISTAKES)
    for line, said in zip(lines, MISTAKES.values(), strict=True):
        assert line.startswith(said)


def test_a_misspelled_training_is_named_with_the_others(loaded, tmp_path):
    training = evaluation(loaded, rows(np.zeros(12)), 3)
    (tmp_path / "trainings" / "tune" / "0").mkdir(parents=True)
    with pytest.raises(UserError, match="has no training 'tuned'; its trainings are: tune"):
        saved.load_variables(tmp_path, training, "tuned")
    with pytest.raises(UserError, match="training 'tune' has not finished with seed 0"):
        saved.load_variables(tmp_path, training, "tune")


def two_heads(**more):
    """A model with several outputs of three classes, as DeiT has, one row of which says "fear"."""
    scores = jnp.tile(jnp.float32([0, 2, 1]), (6, 1))

    def apply(_, batch, patch):
        tap = Taps(patch)
        mean = (tap("cls_logits", scores) + tap("distillation_logits", 2 * scores)) / 2
        return tap.outputs | {"logits": tap("logits", mean), "other_logits": scores, "embedding": scores}

    names = ("logits", "cls_logits", "distillation_logits")
    model = plain(apply)._replace(labels=("joy", "fear", "anger"), class_outputs=names)
    return model._replace(**more)


def test_every_output_with_classes_has_those_of_the_data():
    """Not the mean alone: a student may be taught by each head, and the task may read one of them."""
    classes = ("anger", "joy", "fear")
    out = predict(class_names.matched(two_heads(), two_heads().labels, classes), {"params": {}}, {})
    assert out["cls_logits"][0].tolist() == [1, 0, 2] and out["distillation_logits"][0].tolist() == [2, 0, 4]
    assert out["logits"][0].tolist() == [1.5, 0, 3] and out["embedding"][0].tolist() == [0, 2, 1]
    moved = class_names.matched(two_heads(), two_heads().labels, classes)
    patched = predict(moved, {"params": {}}, {}, {"cls_logits": out["cls_logits"].at[:, 0].add(1)})
    assert patched["cls_logits"][0].tolist() == [2, 0, 2] and patched["logits"][0].tolist() == [2, 0, 3]
    fewer = class_names.matched(two_heads(), two_heads().labels, ("fear", "joy"))
    assert predict(fewer, {"params": {}}, {})["cls_logits"][0].tolist() == [2, 0]
    with pytest.raises(UserError, match="patch 'cls_logits' has fear, joy, the model's output joy, fear, anger"):
        predict(fewer, {"params": {}}, {}, {"cls_logits": jnp.zeros((6, 2))})


def test_the_heads_of_an_encoder_are_outputs_with_classes():
    heads = {"cls_logits": TaskHead(3), "distillation_logits": TaskHead(3, read="mean"), "sentence": SentenceHead()}
    assert linen(Encoders({"text": BERT}, heads)).class_outputs == ("logits", "cls_logits", "distillation_logits")
    pretraining = {"logits": TaskHead(9, read="tokens", tied=True), "seq_relationship_logits": TaskHead(2)}
    assert linen(Encoders({"text": BERT}, pretraining)).class_outputs == ("logits",)
    deit = pretrained.Pretrained(Encoders({"text": BERT}, heads), {}, None, "deit", ("joy", "fear", "anger"))
    assert deit.model.class_outputs == ("logits", "cls_logits", "distillation_logits")
    both = ensemble({"one": two_heads(), "two": two_heads()})
    assert both.class_outputs == two_heads().class_outputs


@pytest.mark.parametrize(
    ("output", "classes", "said"),
    [
        ("other_logits", ("anger", "joy", "fear"), "teacher.other_logits has 3 values, .* its order is unknown"),
        ("cls_logits", ("joy", "calm"), "classes of 'teacher' are joy, fear, anger, those of the data joy, calm"),
    ],
)
def test_each_output_with_classes_is_checked_where_it_is_read(output, classes, said):
    """By an objective, and by a task that measures another output than `logits`; also of a moving average."""
    teacher, loader = two_heads(), rows(np.zeros(12), classes)
    task = classification(len(classes), logits=output)
    with pytest.raises(UserError, match=said):
        check({"teacher": Training.evaluation(teacher, task, loader, loader)}, {})
    student = Trained(plain(lambda params, batch: {"logits": params + jnp.zeros((6, 1))}, lambda *_: jnp.zeros(3)))
    soft = term(losses.kl, student="student.logits", teacher=f"teacher.{output}")
    with pytest.raises(UserError, match=said):
        check({"kd": distilled(student, Frozen(teacher), soft, loader)}, {})


def test_a_moving_average_has_the_classes_of_the_model(loaded):
    loader = rows(np.zeros(12), ("joy", "calm"))
    hint = term(losses.mse, predictions="student.features.text", targets="teacher.features.text")
    mean = distilled(Trained(loaded), Frozen(loaded), hint, loader)
    models = {**mean.models, "mean": MovingAverage("student", 0.5)}
    mean = dataclasses.replace(mean, models=models, evaluate="mean")
    with pytest.raises(UserError, match="the classes of 'mean' are joy, fear, anger, those of the data joy, calm"):
        check({"kd": mean}, {})


def test_one_order_of_classes_in_all_data(loaded):
    train, test = rows(np.zeros(12), ("joy", "fear")), rows(np.zeros(12), ("fear", "joy"))
    with pytest.raises(UserError, match="training data are joy, fear, those of the test data fear, joy"):
        Training.evaluation(loaded, classification(2), train, test)
