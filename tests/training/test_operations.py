"""What tells how a run is doing, and what stops it when it cannot go on."""

import dataclasses
import fcntl
import json
import pathlib
import sys
import time
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import cli, data, losses
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import run_folder, runner
from mmkd_jax.reporting import loggers
from mmkd_jax.training import compiled, loop, throughput
from mmkd_jax.training.checkpoint import Checkpoints
from mmkd_jax.training.operations import PEAKS
from tests import tiny_experiment

TRAINING = tiny_experiment.trainings(tiny_experiment.Config(steps=40))["teacher"]
TINY = tiny_experiment.__file__


def fit(training, folder, program=None, **options):
    return loop.fit(
        training,
        program or compiled.compile_training(training),
        0,
        Checkpoints(folder),
        log=lambda line: None,
        **options,
    )


def breaks_at(step):
    """A training of which one term is no number from a step on."""
    wrong = term(
        losses.cross_entropy,
        logits="teacher.logits",
        labels="batch.label",
        weight=lambda now: jnp.where(now == step - 1, jnp.inf, 0.0),
    )
    return dataclasses.replace(TRAINING, objective=combine(task=TRAINING.objective, odd=wrong), save_every=10)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [data.InMemory, data.GrainLoader])
def test_the_first_value_that_is_not_finite_stops_the_run_at_its_step(tmp_path, reader):
    training = dataclasses.replace(breaks_at(23), data=reader(TRAINING.data.dataset, 16))
    with pytest.raises(UserError, match=r"loss.* is not finite at step 23: .* checkpoint is step 20 in ") as said:
        fit(training, tmp_path / "c")
    assert "task" not in str(said.value)
    with pytest.raises(UserError, match=r"term task.* is not finite at step [123]:"):
        fit(dataclasses.replace(TRAINING, optimizer=optax.sgd(1e30)), tmp_path / "d")


def test_out_of_memory_says_what_a_step_needs(tmp_path):
    program = compiled.compile_training(TRAINING)

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes")

    with pytest.raises(UserError, match=r"step of 16 rows: 0\.0 MiB for the state.*microbatches=2") as said:
        fit(TRAINING, tmp_path / "c", program._replace(advance=full))
    assert "temporaries, over 1 device(s)" in str(said.value)

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: other")

    with pytest.raises(jax.errors.JaxRuntimeError, match="other"):
        fit(TRAINING, tmp_path / "d", program._replace(advance=broken))


def test_speed_by_hand(monkeypatch):
    waited = throughput.Waited(iter(range(3)))
    watch = throughput.Stopwatch(rows=16, flops=lambda: 10**9, source=waited)
    assert watch.elapsed() == {}  # nothing was timed
    watch.add(4, 0.5)
    watch.add(4, 1.5)
    waited.seconds += 0.5
    found = watch.elapsed()
    assert found["rows a second"] == 64 and found["waiting for data, %"] == 25 and "MFU, %" not in found
    assert 50 < found["memory, MiB"] < 100_000
    device = types.SimpleNamespace(device_kind="TPU v4", memory_stats=lambda: {"peak_bytes_in_use": 3 * 2**20})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    watch.add(275, 2.0)
    found = watch.elapsed()
    assert found["memory, MiB"] == 3 and found["waiting for data, %"] == 0
    assert found["MFU, %"] == pytest.approx(100 * 275e9 / 2 / PEAKS["TPU v4"])


def test_speed_is_told_beside_the_learning_curve_and_never_in_it(tmp_path):
    told = []
    fitted = fit(TRAINING, tmp_path / "c", on_metrics=lambda step, row, speed: told.append(speed))
    assert all("rows a second" in t for t in told[1:]) and len(told) == 8
    assert not any("rows a second" in row for row in fitted.history)
    streamed = dataclasses.replace(TRAINING, data=data.GrainLoader(TRAINING.data.dataset, 16))
    told.clear()
    fit(streamed, tmp_path / "d", on_metrics=lambda step, row, speed: told.append(speed))
    assert all(0 <= t["waiting for data, %"] <= 100 for t in told[1:])


def test_operations_of_a_step_by_hand(tmp_path):
    program = compiled.compile_training(TRAINING)
    counted = program.flops()
    # image 9 -> 8, fused 8 -> 8, classes 8 -> 3: forward, and back to weights and inputs but for the first inputs
    forward = 2 * 16 * (9 * 8 + 8 * 8 + 8 * 3)
    assert counted == 3 * forward - 2 * 16 * 9 * 8


def scalars(folder):
    """What TensorBoard would draw: {tag: [(step, value)]}, by tensorboardX's own protocol buffers."""
    # pyrefly: ignore[missing-module-attribute]  protocol buffers make their classes when they are imported
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in sorted(folder.glob("*tfevents*")):
        content, at = file.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 12 + size + 4
            if event.HasField("session_log"):  # a purge: what was told of this step and later is taken back
                found = {k: [x for x in v if x[0] < event.step] for k, v in found.items()}
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.mark.slow
def test_tensorboard_draws_the_learning_curve_and_the_speed_also_after_a_kill(tmp_path):
    config = tiny_experiment.Config(seeds=1, steps=60)
    trainings = tiny_experiment.trainings(config)
    seen = []
    watch = runner.Callbacks(
        log=lambda line: None,
        on_metrics=lambda training, seed, row: seen.append(row["step"]),
        should_stop=lambda: seen[-1:] == [35] and not seen.append(0),
    )
    tiny = runner.Experiment("tiny", config, lambda c: {"teacher": trainings["teacher"]}, None, None, "")
    with pytest.raises(loop.Interrupted):
        runner.run(tiny, config, options=runner.RunOptions(out=tmp_path / "run"), callbacks=watch)
    results = runner.run(
        tiny, config, options=runner.RunOptions(out=tmp_path / "run"), callbacks=runner.Callbacks(log=lambda line: None)
    )
    drawn = scalars(tmp_path / "run/events/teacher/0")
    curve = [(h["step"], np.float32(h["loss"])) for h in results["teacher"][0]["history"]]
    assert drawn["loss"] == curve and [s for s, _ in drawn["term/task"]] == list(range(5, 65, 5))
    assert {"speed/rows_a_second", "speed/memory__MiB"} <= set(drawn)


def test_events_of_a_run_that_is_resumed_within_a_second_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)
    for step in (5, 10):
        with loggers.tensorboard(tmp_path) as log:
            log("teacher", 0, {"step": step, "loss": 1.0 / step})
    drawn = scalars(tmp_path / "teacher" / "0")["loss"]
    assert drawn == [(5, np.float32(0.2)), (10, np.float32(0.1))]


def test_weights_and_biases_gets_a_run_for_each_part_and_seed(tmp_path, monkeypatch):
    told: list[Any] = []

    def init(**options):
        told.append(("init", options["project"], options["group"], options["name"], options["config"]["seed"]))
        return types.SimpleNamespace(
            log=lambda values, step: told.append((step, values)), finish=lambda: told.append("finished")
        )

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with loggers.wandb(tmp_path / "mine", "project", {"steps": 3}) as log:
        log("teacher", 0, {"step": 5, "loss": 1.0})
        log("teacher", 0, {"step": 10, "loss": 0.5})
        log("teacher", 1, {"step": 5, "loss": 1.0})
    assert told == [
        ("init", "project", "mine", "mine/teacher/0", 0),
        (5, {"loss": 1.0}),
        (10, {"loss": 0.5}),
        ("init", "project", "mine", "mine/teacher/1", 1),
        (5, {"loss": 1.0}),
        "finished",
        "finished",
    ]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install 'mmkd_jax.wandb.'"), loggers.wandb(tmp_path, "project", {}):
        pass


def test_a_trace_of_some_steps(tmp_path):
    said = []
    program = compiled.compile_training(TRAINING)
    fitted = loop.fit(
        TRAINING, program, 0, Checkpoints(tmp_path / "c"), log=said.append, profile=(3, tmp_path / "profile")
    )
    assert said == [f"3 steps up to 4 are traced in {tmp_path / 'profile'}"]
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    plain = fit(TRAINING, tmp_path / "d", program)
    assert fitted.history == plain.history


def listed(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["runs", *words])
    out = capsys.readouterr()
    return stopped.value.code or 0, out.out + out.err


@pytest.mark.full
def test_runs_are_listed_with_their_state_and_how_to_go_on(tmp_path, capsys):
    root = tmp_path / "runs"
    words = ["--seeds", "1", "--steps", "20"]
    with pytest.raises(SystemExit):
        cli.main(["run", TINY, "--out", str(root / "done"), *words])
    seen: list[Any] = []
    config = tiny_experiment.Config(seeds=1, steps=60)
    tiny = runner.Experiment("tiny", config, tiny_experiment.trainings, None, None, "")
    watch = runner.Callbacks(
        log=lambda line: None,
        on_metrics=lambda *row: seen.append(row),
        should_stop=lambda: len(seen) == 4 and not seen.append(0),
    )
    with pytest.raises(loop.Interrupted):
        runner.run(
            tiny,
            config,
            options=runner.RunOptions(root / "cut", command="mmkd run cut.py --out there"),
            callbacks=watch,
        )
    rows = {pathlib.Path(r[0]).name: r[1:] for r in run_folder.runs(root)}
    assert rows["done"][:2] == ("finished", "") and rows["done"][3] == f"mmkd run {TINY} --out {root / 'done'} " + (
        " ".join(words)
    )
    best = {r["training"]: r["validation"] for r in json.loads((root / "done/results.json").read_text())["rows"]}
    assert rows["done"][2] == ", ".join(f"{k} {v:.3f} (1)" for k, v in sorted(best.items()))
    state, at, _, again = rows["cut"]
    assert state == "stopped" and at.startswith("teacher, seed 0, step ") and again == "mmkd run cut.py --out there"
    with open(root / "cut/.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert {pathlib.Path(r[0]).name: r[1] for r in run_folder.runs(root)}["cut"] == "running"
    capsys.readouterr()
    code, said = listed(capsys, str(root))
    assert code == 0 and "finished" in said and "stopped" in said
    code, said = listed(capsys, str(tmp_path / "nothing"))
    assert code == 2 and "no runs in" in said
