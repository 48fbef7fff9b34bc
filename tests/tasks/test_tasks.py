import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.core.task import measure
from mmkd_jax.errors import UserError
from mmkd_jax.tasks import classification, regression
from mmkd_jax.training.scores import evaluate

LOGITS = jnp.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [5.0, 0.0, 1.0], [0.0, 0.0, 9.0], [1.0, 4.0, 2.0]])  # 0 1 0 2 1
LABELS = jnp.array([0, 2, 0, 2, 2], jnp.int32)


def ratios(metrics):
    return {k: (np.asarray(s).tolist(), np.asarray(n).tolist()) for k, (s, n) in metrics.items()}


def test_metrics_by_hand(strict):
    assert ratios(classification(3).metrics({"logits": LOGITS}, {"label": LABELS})) == {"accuracy": (3.0, 5.0)}


def test_rows_that_are_not_valid_are_left_out(strict):
    valid = jnp.array([True, True, False, True, False])
    found = jax.jit(classification(3).metrics)({"logits": LOGITS}, {"label": LABELS, "valid": valid})
    assert ratios(found) == {"accuracy": (2.0, 3.0)}
    kept = np.flatnonzero(valid)
    assert ratios(found) == ratios(classification(3).metrics({"logits": LOGITS[kept]}, {"label": LABELS[kept]}))


def test_metrics_add_up_over_batches():
    task = classification(3)
    halves = [task.metrics({"logits": LOGITS[i]}, {"label": LABELS[i]}) for i in (slice(0, 2), slice(2, None))]
    whole = task.metrics({"logits": LOGITS}, {"label": LABELS})
    assert ratios(jax.tree.map(jnp.add, *halves)) == ratios(whole)


def test_predict():
    assert classification(3).predict({"logits": LOGITS}).tolist() == [0, 1, 0, 2, 1]


def test_the_objective_is_cross_entropy_on_the_named_model():
    task = classification(3, label="digit", logits="head")
    batch = {"digit": LABELS, "labelled": jnp.array([True, False, False, False, True])}
    outputs = Outputs(batch, {"pupil": {"head": LOGITS}}, {}, StepContext(0, jax.random.key(0)))
    objective = task.objective("pupil", where="labelled", weight=2.0)
    params, state = objective.init(outputs)
    terms, _ = objective.apply(params, state, outputs)
    log_p = np.asarray(LOGITS) - np.log(np.exp(np.asarray(LOGITS)).sum(-1, keepdims=True))
    np.testing.assert_allclose(total(terms)[0], 2 * -(log_p[0, 0] + log_p[4, 2]) / 2, rtol=1e-5)


def test_names_of_label_and_logits_are_followed():
    task = classification(3, label="digit", logits="head")
    assert task.predict({"head": LOGITS}).tolist() == [0, 1, 0, 2, 1]
    assert float(task.metrics({"head": LOGITS}, {"digit": LABELS})["accuracy"][0]) == 3.0


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_label_out_of_range_is_refused_with_its_value_and_row(wrong):
    labels = np.array([0, 2, wrong, 1, wrong], np.int32)
    with pytest.raises(UserError) as error:
        classification(3).check({"label": labels})
    assert f"label {wrong} in row 2" in str(error.value)
    assert "2 such rows" in str(error.value) and "0 … 2" in str(error.value)


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(UserError, match="float32; classification needs integers 0 … 2"):
        classification(3).check({"label": np.array([0.0, 1.0], np.float32)})
    with pytest.raises(UserError, match="bool"):
        classification(2).check({"label": np.array([True, False])})


def test_a_missing_column_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match="'label'; there are: audio, digit"):
        classification(3).check({"digit": LABELS, "audio": LABELS})


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_good_labels_pass(dtype):
    assert classification(3).check({"label": np.array([0, 1, 2], dtype)}) is None


def scored(task, columns, pieces=1):
    """Scores of a regression whose predictions are the last column, over some batches."""
    *_, output = columns
    each = np.array_split(np.arange(len(columns[output])), pieces)
    batches = [{k: jnp.asarray(x[rows]) for k, x in columns.items()} for rows in each]
    return evaluate(task, jax.jit(lambda _, b: measure(task, {output: b[output]}, b)), None, batches)


def drawn(rows=400):
    draw = np.random.default_rng(0)
    y = draw.normal(1.0, 2.0, rows)
    return y, 0.5 * y + draw.normal(-0.3, 1.0, rows), draw.integers(0, 3, rows).astype(np.int32)


def test_regression_scores_are_those_of_their_definitions(strict):
    y, x, group = drawn()
    y[:7] = 0
    task, valid = regression("rating", "guess", ("source", 3)), np.arange(len(y)) < 390
    x, y = x.astype(np.float32), y.astype(np.float32)
    columns = {"rating": y, "source": group, "valid": valid, "guess": x}
    found = scored(task, columns, 8)
    assert {k: v.tolist() for k, v in scored(task, columns, 5).items()} == {k: v.tolist() for k, v in found.items()}
    y, x, group = y[valid], x[valid], group[valid]
    np.testing.assert_allclose(found["pearson"], np.corrcoef(x, y)[0, 1], rtol=1e-5)
    np.testing.assert_allclose(found["mae"], np.abs(x - y).mean(), rtol=1e-5)
    each = [group == g for g in range(3)]
    np.testing.assert_allclose(found["pearson by source"], [np.corrcoef(x[m], y[m])[0, 1] for m in each], rtol=1e-5)
    np.testing.assert_allclose(found["mae by source"], [np.abs(x[m] - y[m]).mean() for m in each], rtol=1e-5)
    here = y != 0
    guess, truth = x[here] > 0, y[here] > 0
    precision, recall = (guess & truth).sum() / guess.sum(), (guess & truth).sum() / truth.sum()
    np.testing.assert_allclose(found["accuracy"], (guess == truth).mean(), rtol=1e-6)
    np.testing.assert_allclose(found["f1"], 2 * precision * recall / (precision + recall), rtol=1e-6)


def test_constant_predictions_follow_nothing():
    rows = {"batch.label": np.array([1.0, -1.0, 2.0]), "prediction": np.ones(3)}
    assert regression().whole(rows)["pearson"] == 0


def test_prices_have_no_sign_to_predict():
    rows = {"batch.label": np.array([900.0, 1100.0, 1000.0]), "prediction": np.array([950.0, 1000.0, 990.0])}
    found = regression().whole(rows)
    assert found["pearson"] == pytest.approx(np.corrcoef(rows["batch.label"], rows["prediction"])[0, 1], rel=1e-12)
    assert np.isnan(found["accuracy"]) and np.isnan(found["f1"]) and found["mae"] == pytest.approx(160 / 3)


def test_what_is_no_number_is_refused_by_name():
    check = regression("rating", groups=("source", 2)).check
    for columns, said in [
        ({"label": LABELS}, "regression needs a column 'rating'; there are: label"),
        ({"rating": LABELS}, "labels 'rating' are int32; regression needs floats"),
        ({"rating": np.array([0.0, np.nan])}, "label nan in row 1 is not finite"),
        ({"rating": np.zeros(2)}, "regression by 'source' needs a column 'source'; there are: rating"),
        ({"rating": np.arange(3.0), "source": np.array([0, 1, 2])}, "groups 'source' must be integers 0 … 1"),
    ]:
        with pytest.raises(UserError, match=said):
            check(columns)


def test_rows_that_are_not_valid_are_replaced_and_a_group_without_rows_has_no_score():
    batch = {"label": jnp.array([1e-5, -1e-5, 2e-5, 0.0]), "source": jnp.array([0, 0, 0, 1])}
    batch["valid"] = jnp.array([True, True, True, False])
    task = regression(groups=("source", 3))
    scores = scored(task, batch | {"prediction": jnp.array([2e-5, -2e-5, 4e-5, jnp.nan])})
    assert scores["pearson"] == pytest.approx(1, abs=1e-5)  # of any scale
    np.testing.assert_array_equal(np.isnan(scores["mae by source"]), [False, True, True])
    np.testing.assert_array_equal(np.isnan(scores["pearson by source"]), [False, True, True])
