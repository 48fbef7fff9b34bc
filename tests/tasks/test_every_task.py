"""Every task: trained, distilled, stopped early, measured over whole splits, and exported."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data
from mmkd_jax.core.model import linen, predict
from mmkd_jax.core.objective import combine
from mmkd_jax.core.task import measure
from mmkd_jax.deploy.program import export_training, flat
from mmkd_jax.models import ImageMLP, Multimodal, head_for
from mmkd_jax.training import scores
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.tasks.every import COLUMNS, ROWS, TASKS
from tests.training.test_loop import fit


@functools.cache
def trained(name, folder):
    task, distill = TASKS[name]
    model = linen(Multimodal({"x": ImageMLP((8,))}, width=8, head=head_for(task)))
    rows = data.InMemory(data.from_columns(COLUMNS, "made-up"), 20)
    training = Training(
        models={"student": Trained(model), "teacher": Frozen(model, random=True)},
        objective=combine(task=task.objective(), soft=distill),
        task=task,
        optimizer=optax.adam(3e-2),
        steps=40,
        evaluate_every=10,
        patience=3,
        data=rows,
        validation=rows,
        test=rows,
    )
    return training, *fit(training, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.mark.parametrize("name", TASKS)
def test_it_learns_and_its_headline_decides(name, folder):
    training, program, fitted = trained(name, folder / name)
    headline = training.task.metric
    looks = [h[headline] for h in fitted.history]
    assert fitted.best == max(looks) and np.isfinite(looks).all()
    start = training.initial("student")(jax.random.key(1))
    first = scores.evaluate(training.task, program.measure, start, training.validation.eval_batches())
    assert fitted.best > first[headline]
    terms = [k for k in fitted.history[0] if k.startswith("term ")]
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] and len(terms) >= 2


@pytest.mark.parametrize("name", TASKS)
def test_the_same_bits_for_any_batch_size(name, folder):
    training, _, fitted = trained(name, folder / name)
    task, network = training.task, training.networks["student"]
    outputs = jax.jit(lambda v: predict(network, v, {k: jnp.asarray(x) for k, x in COLUMNS.items()}))(
        fitted.variables["student"]
    )

    def of_rows(variables, batch):  # one model for all: only what comes after it may differ
        chosen: Any = {k: x[batch["place"]] for k, x in outputs.items()}
        return measure(task, chosen, batch)

    rows = data.from_columns(COLUMNS | {"place": np.arange(ROWS)}, "made-up")
    found = [scores.evaluate(task, jax.jit(of_rows), None, data.InMemory(rows, n).eval_batches()) for n in (7, 64)]
    for k in found[0]:
        if task.rows and "mood" not in k:  # whose sums are in float32
            np.testing.assert_array_equal(found[0][k], found[1][k], err_msg=k)
        np.testing.assert_allclose(found[0][k], found[1][k], rtol=1e-6, err_msg=k)


@pytest.mark.parametrize("name", TASKS)
def test_it_is_exported_with_all_that_its_metrics_read(name, folder):
    training, _, fitted = trained(name, folder / name)
    exported = export_training(training, ("cpu",))
    batch = {k: jnp.asarray(COLUMNS[k]) for k in exported.inputs}
    call = jax.export.deserialize(bytearray(exported.program)).call
    found: Any = call(flat(fitted.variables["student"]), batch)
    columns = {k: jnp.asarray(x) for k, x in COLUMNS.items()}
    outputs = predict(training.networks["student"], fitted.variables["student"], columns)
    expected = training.task.predict(outputs)
    named = expected if isinstance(expected, dict) else {"": expected}
    for k, x in named.items():
        np.testing.assert_array_equal(found[f"prediction.{k}".rstrip(".")], x)
    measured, _, rows = measure(training.task, found, columns)
    assert set(measured) == set(training.task.metrics(outputs, columns)) and bool(rows) == bool(training.task.rows)
