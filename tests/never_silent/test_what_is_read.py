"""Labels are needed where a term or a metric reads them, in rows that count; streamed data are checked like others."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine, term
from mmkd_jax.data import from_columns
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import explain
from mmkd_jax.tasks import classification, regression
from mmkd_jax.training.read_columns import check_data, without_inputs
from mmkd_jax.training.roles import Trained
from mmkd_jax.training.training import Training
from tests.never_silent.setting import ROWS, columns, experiment, loader, model, teacher_and_student, train
from tests.small import make_batch, net

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])


def label(row=None, value=0):
    y = columns()["label"]
    if row is not None:
        y[row] = value
    return y


def one(objective, rows, **changes):
    """A student alone, trained on these rows."""
    kd = teacher_and_student(**{"data": rows} | changes)["kd"]
    return {"student": dataclasses.replace(kd, models={"student": Trained(model())}, objective=objective)}


def unlabeled():
    rows = columns()
    del rows["label"]
    return rows


def soft(**more):
    return term(losses.kl, student="student.logits", teacher="teacher.logits", **more)


@STREAM
@pytest.mark.parametrize("rows", [unlabeled(), columns(label=label(3, -1)), columns(label=np.full(ROWS, np.nan))])
def test_distillation_needs_no_labels(rows, stream, tmp_path):
    """Distillation on rows without labels, with −1 or with NaN → trained on."""
    trainings = teacher_and_student()
    kd = dataclasses.replace(trainings["kd"], data=loader(rows, stream), objective=combine(soft=soft()))
    train(tmp_path, trainings | {"kd": kd})


@STREAM
@pytest.mark.parametrize("value", [-1, 99])
def test_labels_of_rows_that_do_not_count_may_be_anything(value, stream, tmp_path):
    """Labels of −1 or 99 in rows that no term counts → ignored; in rows that one counts, refused by row."""
    rows = columns(label=label(3, value), labelled=np.arange(ROWS) != 3)
    task = term(losses.cross_entropy, logits="student.logits", labels="batch.label", where="labelled")
    train(tmp_path / "counted", one(combine(task=task), loader(rows, stream)))
    with pytest.raises(UserError, match=f"label {value} in row .* is out of range"):
        every = term(losses.cross_entropy, logits="student.logits", labels="batch.label")
        train(tmp_path / "all", one(combine(task=every, some=task), loader(rows, stream)))


@STREAM
def test_ratings_of_rows_that_do_not_count_may_be_nan(stream, tmp_path):
    """Ratings of NaN in rows that no term counts → ignored; in rows that one counts, refused by row."""
    rating = np.linspace(-1, 1, ROWS).astype(np.float32)
    rows = {
        "x": columns()["x"],
        "rating": np.where(np.arange(ROWS) == 3, np.nan, rating),
        "rated": np.arange(ROWS) != 3,
    }
    whole = {"x": columns()["x"], "rating": rating}
    task = regression("rating", output="logits")
    narrow = dataclasses.replace  # a prediction [b] in place of logits [b, c]
    net = model()._replace(
        apply=lambda v, batch, ctx, patch: ({"logits": (batch["x"] @ v["params"]["w"])[:, 0]}, {}),
    )
    for where in ("rated", None):
        trainings = one(
            combine(task=task.objective("student", where=where)),
            loader(rows, stream),
            validation=loader(whole),
            test=loader(whole),
            task=task,
        )
        trainings = {"student": narrow(trainings["student"], models={"student": Trained(net)})}
        if where:
            after = train(tmp_path / "rated", trainings)
            assert np.isfinite(after["student"][0]["pearson"])
        else:
            with pytest.raises(UserError, match="label nan in row"):
                train(tmp_path / "all", trainings)


@pytest.mark.parametrize("split", ["validation", "test"])
@STREAM
def test_evaluation_checks_every_label(split, stream, tmp_path):
    """A label of −100 in validation or test data, in memory or streamed → refused by row."""
    with pytest.raises(UserError, match=rf"{split}.*label -100 in row \d is out of range"):
        train(tmp_path, teacher_and_student(**{split: loader(columns(label=label(6, -100)), stream)}))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("missing", ["x", "label"])
def test_a_column_that_evaluation_reads_is_missed_before_anything_runs(split, missing):
    """Validation or test data without a column that evaluation reads → refused before anything runs."""
    rows = columns()
    del rows[missing]
    with pytest.raises(
        UserError, match=f"{split} data: the evaluation of 'teacher' reads '{missing}', which is neither a column"
    ):
        explain(experiment(teacher_and_student(**{split: loader(rows)})))


RATINGS = np.array([4, 4, 4, 4.5, -4, -4, -4, -4.5, 0, 1, -1, 0.0])


def rated(ratings, stream):
    task = regression("rating", output="logits")
    net = model()._replace(apply=lambda v, batch, ctx, patch: ({"logits": (batch["x"] @ v["params"]["w"])[:, 0]}, {}))
    rows = loader({"x": columns()["x"], "rating": ratings}, stream)
    trainings = one(
        combine(task=task.objective("student")), rows, validation=rows, test=rows, task=task, optimizer=optax.sgd(1e-3)
    )
    return {"student": dataclasses.replace(trainings["student"], models={"student": Trained(net)})}


@pytest.mark.parametrize("split", ["data", "validation"])
@STREAM
def test_missing_values_of_a_target_do_not_count_as_zero(split, stream, tmp_path):
    """A target that is a column with gaps, `present.rating`, in training or evaluation data → refused by row; rows that
    a mask or `where` leaves out are not.
    """
    gaps = from_columns({"x": columns()["x"], "rating": RATINGS, "present.rating": np.arange(ROWS) != 5}, "gaps")
    trainings = rated(RATINGS, stream)
    replace: Any = dataclasses.replace
    changed = replace(trainings["student"], **{split: loader(gaps, stream)})
    with pytest.raises(
        UserError, match=r"'rating' of task 'regression' is missing in row \d+ .*would count as 0: leave"
    ):
        train(tmp_path / "gaps", {"student": changed})
    kept = replace(trainings["student"], **{split: loader(gaps.where("present.rating"), stream)})
    assert np.isfinite(train(tmp_path / "kept", {"student": kept})["student"][0]["pearson"])


@STREAM
def test_no_statistic_of_all_rows_is_asked_of_a_batch(stream, tmp_path):
    """Streamed ratings whose single batches lie far from 0 → trained on."""
    assert np.isfinite(train(tmp_path, rated(RATINGS, stream))["student"][0]["pearson"])


@STREAM
@pytest.mark.parametrize("ratings", [RATINGS + 1e6, np.full(ROWS, 3.0)], ids=["far", "constant"])
def test_ratings_that_have_no_correlation_are_refused(ratings, stream, tmp_path):
    """Ratings far from 0, or all the same → refused, as Pearson's r would be rounding noise."""
    message = "pearson is not finite on validation" if stream else "too far from 0 for Pearson's r"
    with pytest.raises(UserError, match=message):
        train(tmp_path, rated(ratings, stream))


def test_rows_that_lack_a_modality_are_pointed_out():
    """Rows that lack a modality and are trained on as zeros → pointed out by `mmkd explain`."""
    batch = {k: x for k, x in make_batch(rows=16).items() if k != "valid"}
    known = from_columns({**batch, "known": np.arange(16) % 2 > 0}, "made-up")
    every, missing = loader(known), int((~batch["present.audio"]).sum())

    def text(rows=every, **where):
        task = classification(3)
        training = Training(
            models={"student": Trained(net(4, "image", "audio"))},
            objective=combine(task=task.objective("student", **where)),
            **{"optimizer": optax.sgd(0.1), "task": task, "steps": 1, "data": rows, "validation": rows, "test": rows},
        )
        return explain(experiment({"student": training}))

    assert f"{missing} of 16 rows lack 'audio', and term 'task' trains on zeros there" in text()
    assert "rows lack" not in text(where="present.audio")
    assert "an unknown number of 8 rows lack 'audio', and term 'task'" in text(loader(known.where("known")))
    assert "rows lack" not in text(loader(known.where("present.audio")))


def test_rows_that_lack_all_inputs_are_pointed_out(tmp_path):
    """Test rows that lack every input of the student, and are scored on zeros → counted in the log and by `explain`."""
    batch = {k: x for k, x in make_batch(rows=16).items() if k != "valid"}
    both = from_columns({**batch, "present.image": ~batch["present.audio"] | (np.arange(16) > 3)}, "made-up")
    missing = int((~batch["present.audio"]).sum())

    def lines(*modalities, rows=both, read=True):
        training = Training(
            models={"student": Trained(net(4, *modalities))},
            objective=combine(task=classification(3).objective("student")),
            **{"optimizer": optax.sgd(0.1), "task": classification(3), "steps": 1},
            **{"data": loader(rows), "validation": loader(rows), "test": loader(rows)},
        )
        logged = []
        check_data(training, logged.append)
        assert logged == without_inputs(training)
        return without_inputs(training, read)

    said = f"{missing} of 16 test rows lack audio, every input of 'student': it is scored on zeros there"
    assert said in lines("audio")[1] and said in lines("audio", read=False)[1]
    assert lines("image", "audio") == []
    neither = from_columns({**batch, "present.image": np.arange(16) > 3, "present.audio": np.arange(16) > 1}, "made-up")
    assert "2 of 16 validation rows lack audio, image, every" in lines("image", "audio", rows=neither)[0]
    assert lines("image", "audio", rows=neither, read=False) == []  # explain reads no rows


def test_checks_of_any_task_are_heard(tmp_path):
    """A task whose check reads a copy of the columns, or the labels before the mask → checked all the same."""
    base = classification(3)

    def on_copy(columns):
        base.check(dict(columns))

    def labels_first(columns):
        label, valid = columns["label"], columns["valid"]
        if (valid & (label < 0)).any():
            raise UserError("label -1")

    for check in (on_copy, labels_first):
        task = base._replace(check=check)
        with pytest.raises(UserError, match="label -1"):
            train(tmp_path / check.__name__, teacher_and_student(task=task, data=loader(columns(label=label(3, -1)))))


def test_jitted_metrics_and_models_are_taken(tmp_path):
    """Metrics and models that are jitted functions of the whole dict → taken; unread outputs are left alone."""
    base = classification(3)
    task = base._replace(metrics=jax.jit(base.metrics))
    run = jax.jit(lambda params, batch: {"logits": batch["x"] @ params["w"], "unread": batch["x"] * jnp.nan})
    net = plain(run, lambda key, batch: model().init(key, batch)["params"])
    trainings = {"teacher": teacher_and_student(task=task)["teacher"]}
    trainings["teacher"] = dataclasses.replace(trainings["teacher"], models={"teacher": Trained(net)})
    assert "rows lack" not in explain(experiment(trainings))
    train(tmp_path, trainings)


def test_rows_that_are_padding_in_the_data_are_not_evaluated(tmp_path):
    """A column `valid` of the data set itself → its rows are left out of evaluation."""
    rows = columns(label=label(1, -1), valid=np.arange(ROWS) != 1)
    whole = train(tmp_path, teacher_and_student(test=loader(rows)))["kd"][0]["accuracy"]
    assert round(whole * (ROWS - 1), 6) == round(whole * (ROWS - 1))
