"""Classification over whole splits: the numbers of scikit-learn's report, in a run folder as well."""

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.metrics

from mmkd_jax import metrics
from mmkd_jax.core.task import measure
from mmkd_jax.tasks import classification
from mmkd_jax.training import scores

CLASSES = 5  # class 3 has no row, class 4 no prediction


def made(rows=203):
    draw = np.random.default_rng(0)
    labels = draw.choice([0, 1, 2, 4], rows, p=[0.5, 0.2, 0.2, 0.1]).astype(np.int32)
    logits = draw.normal(size=(rows, CLASSES)).astype(np.float32) + 1.5 * np.eye(CLASSES, dtype=np.float32)[labels]
    logits[:, 4] = -np.inf
    return {"logits": logits}, {"label": labels, "example_id": draw.permutation(rows).astype(np.int32)}


def scored(size, task, outputs, batch):
    program = jax.jit(lambda _, pair: measure(task, *pair))
    rows = len(batch["label"])

    def batches():
        for i in range(0, rows, size):
            chosen = np.minimum(np.arange(i, i + size), rows - 1)
            valid = {"valid": np.arange(i, i + size) < rows}
            found, columns = ({k: v[chosen] for k, v in both.items()} for both in (outputs, batch))
            yield found, columns | valid

    return scores.evaluate(task, program, None, batches())


def test_it_is_the_report_of_scikit_learn():
    outputs, batch = made()
    found = scored(64, classification(CLASSES), outputs, batch)
    predictions = np.argmax(outputs["logits"], -1)
    expected = sklearn.metrics.classification_report(
        batch["label"], predictions, labels=range(CLASSES), zero_division=np.nan, output_dict=True
    )
    report = metrics.classification_report(batch["label"], predictions, CLASSES)
    for k, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        each = [expected[str(c)][name] for c in range(CLASSES)]
        np.testing.assert_allclose(found[f"{k} by class"][:3], each[:3], rtol=1e-12)
        assert found[f"macro {k}"] == report.macro[name].value
    assert np.isnan(found["recall by class"][3]) and np.isnan(found["precision by class"][4])
    assert found["support by class"].tolist() == [expected[str(c)]["support"] for c in range(CLASSES)]
    assert found["weighted f1"] == report.weighted["f1-score"].value
    assert found["weighted precision"] == report.weighted["precision"].value
    assert found["accuracy"] == expected["accuracy"]
    assert found["confusion matrix"].tolist() == report.confusion.tolist()


def test_the_same_bits_for_any_batch_size():
    first, *others = [scored(n, classification(CLASSES), *made()) for n in (7, 64, 203)]
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_many_classes_have_no_matrix():
    task, many = classification(30_000), 30_000
    rows = {"batch.label": np.array([5, many - 1]), "predictions": np.array([5, 5])}
    found = task.whole(rows)
    assert "confusion matrix" not in found and found["support by class"].sum() == 2
    assert found["macro f1"] == (2 / 3 + 0) / 2  # over the classes that have rows or predictions
    assert jnp.isnan(found["f1 by class"][0])
