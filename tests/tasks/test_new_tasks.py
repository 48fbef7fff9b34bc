"""Tasks by hand and by scikit-learn; what their labels must be, in one line with the first bad row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from mmkd_jax import tasks
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.models import RankHead, head_for
from mmkd_jax.tasks import classification, multi_label, ordinal, regression
from mmkd_jax.training import class_names

DRAW = np.random.default_rng(0)
Z = DRAW.normal(size=(50, 4)).astype(np.float32)
FLAGS = (Z + DRAW.normal(size=Z.shape) > 0).astype(np.int32)
UNKNOWN = DRAW.random(Z.shape) < 0.3


def loss_of(task, outputs, batch, **options):
    """The loss and its gradient with respect to the logits."""
    objective = task.objective(**options)

    def value(z):
        seen = Outputs(batch, {"student": {**outputs, "logits": z}}, {}, StepContext(0, jax.random.key(0)))
        params, state = objective.init(seen)
        return total(objective.apply(params, state, seen)[0])[0]

    return jax.value_and_grad(value)(outputs["logits"])


@pytest.mark.parametrize("kind", ["int", "float"])
def test_labels_that_are_not_judged_count_nowhere(kind):
    labels = np.where(UNKNOWN, -1, FLAGS) if kind == "int" else np.where(UNKNOWN, np.nan, FLAGS).astype(np.float32)
    task, batch = multi_label(4), {"label": jnp.asarray(labels)}
    value, gradient = loss_of(task, {"logits": jnp.asarray(Z)}, batch)
    p = 1 / (1 + np.exp(-Z.astype(np.float64)))
    each = -np.where(FLAGS == 1, np.log(p), np.log1p(-p))
    np.testing.assert_allclose(value, each[~UNKNOWN].mean(), rtol=1e-6)
    assert (np.asarray(gradient)[UNKNOWN] == 0).all() and (np.asarray(gradient)[~UNKNOWN] != 0).all()
    found = task.whole({"logits": Z, "batch.label": labels, "predictions": np.asarray(task.predict({"logits": Z}))})
    by_class = [
        sklearn.metrics.average_precision_score(FLAGS[~UNKNOWN[:, c], c], Z[~UNKNOWN[:, c], c]) for c in range(4)
    ]
    np.testing.assert_allclose(found["AP by class"], by_class, rtol=1e-12)
    np.testing.assert_allclose(found["mAP"], np.mean(by_class), rtol=1e-12)
    micro = sklearn.metrics.f1_score(FLAGS[~UNKNOWN], Z[~UNKNOWN] >= 0)
    np.testing.assert_allclose(found["micro f1"], micro, rtol=1e-12)


def test_masked_rows_and_labels_that_are_not_judged():
    labels, rows = jnp.where(UNKNOWN, -1, FLAGS), jnp.arange(50) < 20
    some = {"label": labels, "valid": jnp.arange(50) % 2 == 0, "labelled": rows}
    value, _ = loss_of(multi_label(4), {"logits": jnp.asarray(Z)}, some, where="labelled")
    seen = np.flatnonzero(np.asarray(some["valid"] & rows))
    expected, _ = loss_of(multi_label(4), {"logits": jnp.asarray(Z[seen])}, {"label": labels[seen]})
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_a_threshold_for_each_class():
    bounds = (0.1, 0.5, 0.9, 1.0)
    expected = 1 / (1 + np.exp(-Z)) >= np.array(bounds)
    assert (np.asarray(multi_label(4, bounds).predict({"logits": jnp.asarray(Z)})) == expected).all()
    with pytest.raises(UserError, match="expected a probability, or one for each of 4"):
        multi_label(4, (0.1, 0.5))


def test_levels_by_hand():
    z = jnp.array([[3.0, 0.1, -2.0], [-0.1, 3.0, 3.0], [2.0, 2.0, 2.0]])
    assert ordinal(4).predict({"logits": z}).tolist() == [2, 2, 3]
    # σ(3) σ(.1) = .5002, · σ(−2) = .06; σ(−.1) = .475; σ(2)³ = .68
    assert ordinal(4, "corn").predict({"logits": z}).tolist() == [2, 0, 3]
    assert ordinal(3, "expected").predict({"logits": jnp.array([[9.0, 0, 9.0], [9.0, 0, 0]])}).tolist() == [1, 0]


def test_kappa_is_that_of_scikit_learn():
    labels, found = DRAW.integers(0, 5, 200), DRAW.integers(0, 5, 200)
    expected = sklearn.metrics.cohen_kappa_score(labels, found, weights="quadratic", labels=range(5))
    rows = {"batch.label": labels, "predictions": found}
    np.testing.assert_allclose(ordinal(5).whole(rows)["kappa"], expected, rtol=1e-12)


def test_thresholds_have_one_order_for_all_rows():
    head, x = RankHead(5), jnp.asarray(DRAW.normal(size=(20, 3)), jnp.float32)
    found: Any = head.apply(head.init(jax.random.key(0), x), x)
    z = found["logits"]
    gaps = np.diff(np.asarray(z), axis=1)
    assert (gaps < 0).all() and np.ptp(gaps, axis=0).max() < 1e-5


def test_a_text_by_hand():
    task = tasks.generation(prompt="asked")
    ids, mask = jnp.array([[5, 1, 2, 3], [5, 1, 4, 0]]), jnp.array([[True] * 4, [True, True, True, False]])
    asked = jnp.array([[True, True, False, False]] * 2)
    batch = {"text.ids": ids, "text.mask": mask, "asked": asked}
    p = jnp.full((2, 4, 6), 0.1).at[0, 1, 2].set(0.5).at[0, 2, 3].set(0.5).at[1, 1, 2].set(0.5)
    found = task.metrics({"logits": jnp.log(p)}, batch)
    scores = task.scores({k: np.float64(s) / np.float64(n) for k, (s, n) in found.items()})
    np.testing.assert_allclose(scores["perplexity"], np.exp(-(2 * np.log(0.5) + np.log(0.1)) / 3), rtol=1e-5)
    assert [float(n) for _, n in found.values()] == [3, 3, 2]
    assert scores["accuracy"] == pytest.approx(2 / 3) and scores["exact match"] == 0.5
    value, gradient = loss_of(task, {"logits": jnp.log(p)}, batch)
    np.testing.assert_allclose(value, -scores["log-likelihood"], rtol=1e-6)
    assert not np.asarray(gradient)[:, [0, 3]].any() and not np.asarray(gradient)[1, 2].any()


def test_labels_where_there_are_some():
    task = tasks.multi_task(
        {"topic": classification(3, "topic", "topic"), "mood": regression("mood", "mood")}, "topic", {"mood": "rated"}
    )
    rated = DRAW.random(50) < 0.5
    mood = np.where(rated, Z[:, 3], np.nan).astype(np.float32)
    columns = {"topic": FLAGS[:, 0], "mood": mood, "rated": rated}
    task.check(columns)
    task.check_all(columns)
    outputs = {"topic": jnp.asarray(Z[:, :3]), "mood": jnp.asarray(Z[:, 2])}
    batch = {k: jnp.asarray(x) for k, x in columns.items()}
    assert not [k for k in task.metrics(outputs, batch) if k.startswith("mood ")]
    rows = {f"batch.{k}": x for k, x in columns.items()} | outputs
    found = task.whole(jax.device_get(rows | {"predictions": task.predict(outputs)}))
    alone = regression("mood", "mood").whole({"mood": Z[rated, 2], "batch.mood": mood[rated]})
    assert {k: found[f"mood {k}"] for k in alone} == alone
    assert found["recall by topic class"].shape == (3,) and 0 < found["topic macro f1"] < 1
    columns["mood"][np.flatnonzero(rated)[0]] = np.nan
    with pytest.raises(UserError, match="mood: label nan in row"):
        task.check(columns)


GOOD = {"label": np.zeros((5, 4), np.int32)}


@pytest.mark.parametrize(
    ("task", "columns", "said"),
    [
        (multi_label(4), {"x": np.zeros(5)}, "multi_label needs a column 'label'; there are: x"),
        (multi_label(3), GOOD, r"'label' has shape \[5, 4\]; multi_label needs \[rows, 3\]"),
        (multi_label(4), {"label": np.eye(4)[[0, 1, 2]] * [1, 1, 7, 1]}, "'label' is 7.0 in row 2, column 2"),
        (multi_label(4), {"label": np.full((5, 4), "a")}, "labels 'label' are <U1; multi_label needs booleans"),
        (ordinal(3), {"label": np.array([0, 1, 3])}, r"'label' is 3 in row 2 \(1 such rows\): levels must be 0 … 2"),
        (ordinal(3), {"label": np.array([0.0, 1.0])}, "labels 'label' are float64; ordinal needs integers 0 … 2"),
        (tasks.visual_questions(4), GOOD, "scores 'label' are int32; visual_questions needs floats"),
        (tasks.visual_questions(2), {"label": np.array([[0.0, 1.0], [0.5, 1.5]])}, "'label' is 1.5 in row 1, column 1"),
        (tasks.generation(), {"text.ids": np.zeros((2, 3))}, "'text.ids' are float64; generation needs integers"),
        (tasks.generation(), {"text.ids": np.zeros((2, 3), int)}, "generation needs a column 'text.mask'"),
    ],
)
def test_bad_labels_are_refused(task, columns, said):
    with pytest.raises(UserError, match=said):
        task.check(columns)


def test_rows_that_are_not_valid_may_hold_anything():
    labels = np.array([[0, 1], [9, 9]])
    multi_label(2).check({"label": labels, "valid": np.array([True, False])})
    ordinal(3).check({"label": np.array([0, 9]), "valid": np.array([True, False])})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: multi_label(0), "classes=0; expected their number"),
        (lambda: ordinal(1), "levels=1; expected their number, at least 2"),
        (lambda: tasks.multi_task({"a": classification(2)}, "a"), "headline='a'; expected one of at least two tasks"),
        (lambda: tasks.multi_task({"a b": classification(2), "c": classification(2)}, "c"), "a task is named 'a b'"),
        (lambda: head_for(tasks.generation()), "task 'generation' has no head on one embedding"),
        (lambda: ordinal(4).predict({"logits": jnp.zeros((2, 4))}), "4 levels in the form 'coral' need 3 logits"),
        (lambda: multi_label(3).predict({"logits": jnp.zeros((2, 4))}), "for 3 classes: its head is of another task"),
        (lambda: multi_label(2).check_all({"label": np.zeros((3, 2), int)}), "mAP is undefined on this split"),
        (lambda: ordinal(3).check_all({"label": np.ones(3, int)}), "kappa is undefined on this split"),
    ],
)
def test_what_a_task_cannot_be_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


@pytest.mark.parametrize("labels", [np.zeros(50, np.int32), np.zeros((50, 5), np.int32)])
def test_labels_of_another_shape_are_refused_by_the_loss_too(labels):
    with pytest.raises(UserError, match="applies"):
        loss_of(multi_label(4), {"logits": jnp.asarray(Z)}, {"label": jnp.asarray(labels)})


@pytest.mark.parametrize("task", [classification(3), multi_label(3, label="label"), ordinal(3)])
def test_names_of_fewer_classes_are_refused(task):
    with pytest.raises(UserError, match=rf"names of 2 classes \(a, b\), task '{task.name}' has 3 classes"):
        class_names.check_one_order(("a", "b"), task, {})


def test_names_in_another_order_than_the_tags_are_refused():
    with pytest.raises(UserError, match="those of task 'tagging' O, B-A, I-A: give their labels one order"):
        class_names.check_one_order(("O", "I-A", "B-A"), tasks.tagging(("O", "B-A", "I-A")), {})
    assert tasks.tagging(("O", "B-A", "I-A")).classes == ("O", "B-A", "I-A")


def test_a_crf_is_not_measured_as_if_it_were_none():
    with pytest.raises(UserError, match="the model is a Crf"):
        tasks.tagging(("A", "B")).metrics(
            {"logits": jnp.zeros((1, 2, 2)), "decoded": jnp.zeros((1, 2))}, {"label": jnp.zeros((1, 2))}
        )
