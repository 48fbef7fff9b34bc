"""Retrieval: collections, numbers of queries and documents, and ties that would give another figure."""

import dataclasses

import jax
import numpy as np
import pytest

from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine
from mmkd_jax.data import GrainLoader, InMemory, from_columns
from mmkd_jax.errors import UserError
from mmkd_jax.metrics import similarities
from mmkd_jax.tasks import retrieval
from mmkd_jax.training.roles import Trained
from tests.never_silent.setting import ROWS, columns, loader, teacher_and_student, train

DRAW = np.random.default_rng(0)


def towers(width=3):
    sizes = {"query": 3, "document": width}
    return plain(
        lambda params, batch: {side: batch["x"] @ params[side] for side in sizes},
        lambda key, batch: {side: jax.random.normal(key, (4, n)) for side, n in sizes.items()},
    )


def refused(tmp_path, task, rows, model=None):
    """The message of a run that did not take a step."""
    seen = {n: loader(rows) for n in ("data", "validation", "test")}
    training = teacher_and_student(**seen)["teacher"]
    models, objective = {"teacher": Trained(model or towers())}, combine(task=task.objective("teacher"))
    training = dataclasses.replace(training, models=models, objective=objective, task=task)
    with pytest.raises(UserError) as error:
        train(tmp_path / "run", {"teacher": training})
    assert not (tmp_path / "run/trainings").exists() and len(str(error.value)) < 500
    return str(error.value)


def test_a_collection_smaller_than_the_ranks(tmp_path):
    """nDCG@k, MRR@k or recall@k with more ranks than documents or queries → refused before the first step."""
    assert f"recall@20 needs as many queries, and there are {ROWS}" in refused(
        tmp_path, retrieval(recall=(20,)), columns()
    )


def test_columns_of_numbers(tmp_path):
    """A column of query or document numbers is missing, or has no integers → refused before the first step."""
    task = retrieval(document_id="page", k=1, recall=(1,))
    assert "'page'" in refused(tmp_path, task, columns())
    said = refused(tmp_path, task, columns(page=np.arange(ROWS, dtype=np.float32)))
    assert "document_id 'page' is float32" in said and "row 0 has 0.0; convert them with .astype(np.int32)" in said


def test_outputs_of_unequal_widths(tmp_path):
    """Query and document embeddings of unequal widths → refused before the first step."""
    said = refused(tmp_path, retrieval(k=1, recall=(1,)), columns(), towers(width=2))
    assert "document is float32[4, 2], but d is 3 in query" in said


def test_a_collapsed_model_gets_chance():
    """A model that embeds all rows alike → scores of chance, the expected value over all orders."""
    x = np.tile(DRAW.normal(size=(1, 7)).astype(np.float32), (50, 1))
    found = retrieval(k=10, recall=(1, 10)).whole({"query": x, "document": x})
    assert found["MRR@10"] == pytest.approx(np.mean(1 / np.arange(1, 11)) * 10 / 50, abs=1e-12)
    assert found["recall@1"] == 1 / 50 and found["recall@10"] == 10 / 50


def test_one_number_with_several_embeddings_is_refused():
    """Rows with one number of a query or document, and different embeddings → refused by row."""
    x = DRAW.normal(size=(3, 2))
    rows = {"query": x, "document": x, "batch.d": np.array([4, 5, 4])}
    with pytest.raises(UserError, match="rows 0 and 2, in the order of example_id, have document_id 4 and different"):
        retrieval(document_id="d", k=1, recall=(1,)).whole(rows)


def test_documents_that_differ_by_rounding_are_tied():
    """A document that occurs twice, rounded differently → tied, so that no metric depends on the batch size."""
    y = np.repeat(DRAW.normal(size=(20, 8)), 2, 0)
    noisy = y * (1 + 1e-7 * DRAW.normal(size=y.shape))
    found = similarities(DRAW.normal(size=(6, 8)), noisy)
    np.testing.assert_array_equal(found[:, ::2], found[:, 1::2])
    assert all(len(set(row)) == 20 for row in found.tolist())
    assert similarities(y[:0], y).shape == (0, 40) and similarities(y, y[:0]).shape == (40, 0)


@pytest.mark.parametrize("kind", [InMemory, GrainLoader])
def test_topics_of_batches(tmp_path, kind):
    """Topics are missing, no integers, negative, or smaller than a batch → refused before the first step."""
    whole, task = loader(columns(page=np.arange(ROWS))), retrieval(k=1, recall=(1,))
    training = dataclasses.replace(
        teacher_and_student(validation=whole, test=whole)["teacher"],
        models={"teacher": Trained(towers())},
        objective=combine(task=task.objective("teacher")),
        task=task,
    )
    for topic, words in (
        (None, "topic='topic' is not a column"),
        (np.zeros(ROWS, np.float32), "topic 'topic' is float32[]; expected one integer a row"),
        (np.arange(ROWS) - 1, "topic -1 in row 0 is negative"),
        (np.arange(ROWS) // 5, "topic 2 has 2 rows, fewer than a batch of 4 (1 of 3 topics)"),
    ):
        rows = from_columns(columns() if topic is None else columns(topic=topic), "made-up")
        with pytest.raises(UserError) as error:
            found = dataclasses.replace(training, data=kind(rows, 4, topic="topic"))
            train(tmp_path / "run", {"teacher": found})
        assert words in str(error.value) and len(str(error.value)) < 500
        assert not (tmp_path / "run/trainings").exists()
