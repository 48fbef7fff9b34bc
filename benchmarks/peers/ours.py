"""This library's side: what all start from, and its steps."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import mmkd_jax as mmkd
from benchmarks.peers import setting

EPOCHS = 100  # of which the order of rows is written down


class Run:
    """A training in training; each call takes some steps and gives their mean loss."""

    def __init__(self, own: mmkd.Training, variables, reader: mmkd.data.Loader | None = None):
        self.program, self.state, self.frozen = setting.start(own, variables)
        self.reader = reader or own.data
        arrays = getattr(self.reader, "arrays", None)
        self.source = arrays() if arrays else mmkd.training.Waited(self.reader.batches(0))

    def __call__(self, steps: int) -> float:
        metrics = self.program.zero_metrics(self.state, self.frozen)
        advanced = self.program.advance(self.state, metrics, self.frozen, self.source, steps)
        self.state, metrics = jax.block_until_ready(advanced)
        return float(metrics["loss"]) / steps


def cached_run(own: mmkd.Training, folder: pathlib.Path, variables=None) -> Run:
    """A training whose teacher's answers are read; computed first where `variables` are given."""
    kept = own.cache["teacher"]
    about = {"training": "teacher", "model": "teacher", "seed": 0, "kept": repr(kept)}
    records, digest = mmkd.training.recorded(
        own, "teacher", folder / kept.dtype, about, lambda: variables, log=lambda line: None
    )
    return Run(own, None, own.data.with_records(records, {"teacher": digest}))


def online() -> Run:
    """The teacher runs in every step."""
    own = setting.training()
    return Run(own, setting.teacher_variables(own))


def cached(folder: pathlib.Path, variables=None) -> Run:
    """Its logits and embedding are read in half precision."""
    return cached_run(setting.training(mmkd.CacheSpec(setting.OUTPUTS, "float16")), folder, variables)


def prepare(folder: pathlib.Path) -> dict[str, int]:
    """Write rows, their order, weights and the teacher's answers; returns the operations of a row."""
    run = online()
    reading = cached(folder, run.frozen["teacher"])
    reader, cache = run.reader, reading.reader
    assert isinstance(reader, mmkd.data.InMemory) and isinstance(cache, mmkd.data.InMemory) and cache.records
    params = {"teacher": run.frozen["teacher"]["params"], "student": run.state.params["student"]}
    params["connector"] = run.state.params["objective"]["hint"]["student"]
    flat: dict[str, Any] = {"/".join(k.key for k in at): np.asarray(v) for at, v in jax.tree.leaves_with_path(params)}
    np.savez(folder / "weights.npz", **flat)

    source: Any = run.source

    def rows(step):
        return reader.batch(source, run.state.key, step)["example_id"]

    order = jax.jit(lambda steps: jax.lax.map(rows, steps))(np.arange(EPOCHS * setting.ROWS // setting.BATCH))
    records: Mapping[str, Any] = cache.records.arrays
    answers = {k: np.asarray(v[0], np.float32) for k, v in records.items()}
    columns: dict[str, Any] = {"order": np.asarray(order), **setting.columns(), **answers}
    np.savez(folder / "rows.npz", **columns)
    return {"online": run.program.flops() // setting.BATCH, "cached": reading.program.flops() // setting.BATCH}
