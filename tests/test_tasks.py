import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.objective import total
from mmkd_jax.tasks import classification
from mmkd_jax.views import Context, Views

LOGITS = jnp.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [5.0, 0.0, 1.0], [0.0, 0.0, 9.0], [1.0, 4.0, 2.0]])  # 0 1 0 2 1
LABELS = jnp.array([0, 2, 0, 2, 2], jnp.int32)


def ratios(metrics):
    return {k: (np.asarray(s).tolist(), np.asarray(n).tolist()) for k, (s, n) in metrics.items()}


def test_metrics_by_hand(strict):
    assert ratios(classification(3).metrics({"logits": LOGITS}, {"label": LABELS})) == {
        "accuracy": (3.0, 5.0),
        "accuracy by class": ([2.0, 0.0, 1.0], [2.0, 0.0, 3.0]),
    }


def test_rows_that_are_not_valid_are_left_out(strict):
    valid = jnp.array([True, True, False, True, False])
    found = jax.jit(classification(3).metrics)({"logits": LOGITS}, {"label": LABELS, "valid": valid})
    assert ratios(found) == {"accuracy": (2.0, 3.0), "accuracy by class": ([1.0, 0.0, 1.0], [1.0, 0.0, 2.0])}
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
    views = Views(batch, {"pupil": {"head": LOGITS}}, {}, Context(0, jax.random.key(0)))
    objective = task.objective("pupil", where="labelled", weight=2.0)
    params, memory = objective.init(views)
    terms, _ = objective.apply(params, memory, views)
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
