"""What teacher and students cost: parameters, operations, bytes, latency and memory, side by side."""

import pathlib
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files
from mmkd_jax.deploy import folder
from mmkd_jax.deploy.student import Student, load
from mmkd_jax.errors import UserError, choices
from mmkd_jax.reporting.markdown import markdown_table

FILE = "measure.json"
_WARM = 3


class Model(NamedTuple):
    """A model whose costs are measured.

    Attributes:
        name: its name in its training.
        student: the model in use.
        size: bytes of its program and variables on disk.
    """

    name: str
    student: Student
    size: int


def costs(
    run: pathlib.Path,
    seed: int = 0,
    batches: Sequence[int] = (1, 32),
    calls: int = 100,
    machine: str = "",
    teachers: Mapping[str, Model] = MappingProxyType({}),
) -> dict[str, Any]:
    """Measure the trained model of every training of a run, and pretrained teachers beside them.

    Calls of the models alternate, so that all of them meet the same load of the machine.

    Args:
        run: folder of the run.
        seed: which of its seeds.
        batches: numbers of rows of a call.
        calls: number of timed calls for each model and number of rows.
        machine: a description of the machine.
        teachers: name -> teacher that no training of the run made.

    Returns:
        {"machine", "seed", "calls", "trainings": {name: {"model", "parameters", "operations", "bytes", "latency":
        {rows: {"min", "median", "p99"}}, "memory": {rows: bytes}}}}; operations are FLOPs for one row, bytes those of
        program and variables on disk, latencies milliseconds, memory that of arguments, outputs and temporaries of
        the compiled program. Models that run with a fixed number of rows only have no others.

    Raises:
        UserError: it is not the folder of a run, or no training has a student with this seed.
    """
    models, reasons = {}, []
    for place in sorted((run / "trainings").glob(f"*/{seed}/student")):
        try:
            student = load(place)
        except UserError as error:
            reasons.append(str(error))
            continue
        size = sum((place / f).stat().st_size for f in (folder.PROGRAM, folder.VARIABLES))
        models[place.parent.parent.name] = Model(student.signature["model"], student, size)
    if not models:
        known = choices(p.name for p in (run / "trainings").glob("*") if p.is_dir()) if run.is_dir() else "none"
        why = f" ({reasons[0]})" if reasons else ""
        raise UserError(f"{run} has no student of seed {seed}{why}; its trainings are: {known}")
    models = {**teachers, **models}
    found: dict[str, Any] = {}
    for name, (model, student, size) in models.items():
        counts = {"parameters": student.signature["parameters"], "operations": student.signature.get("operations")}
        found[name] = {"model": model, **counts, "bytes": size, "latency": {}, "memory": {}}
    for rows in batches:
        calls_of = {n: _call(x.student, rows) for n, x in models.items() if x.student.batch in (None, rows)}
        for name, (_, _, compiled) in calls_of.items():
            analysis = compiled.memory_analysis()
            if analysis is not None:
                sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
                found[name]["memory"][str(rows)] = sum(getattr(analysis, k) for k in sizes)
        for name, times in _timed(calls_of, calls).items():
            p99 = float(np.percentile(times, 99))
            latency = {"min": min(times), "median": float(np.median(times)), "p99": p99}
            found[name]["latency"][str(rows)] = {k: round(x, 4) for k, x in latency.items()}
    return {"machine": machine, "seed": seed, "calls": calls, "trainings": found}


def write(run: pathlib.Path, costs: Mapping[str, Any]) -> str:
    """Write `measure.json` to the folder of a run, and return its table."""
    files.write_json(run / FILE, dict(costs))
    heads, rows = columns(costs["trainings"])
    text = markdown_table(["training", *heads], [[n, *r] for n, r in rows.items()], "l" + "r" * len(heads))
    below = f"\nseed {costs['seed']}, {costs['calls']} alternating calls; {costs['machine']}"
    return text + below


def known(run: pathlib.Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the columns of `measure.json` of a run; none if it was not measured."""
    try:
        return columns(files.read_json(run / FILE)["trainings"])
    except (FileNotFoundError, files.Damaged):
        return [], {}


def columns(trainings: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the heads of columns with costs, and training -> its cells.

    Example:
        >>> cost = {"parameters": 1500, "operations": 3_000_000, "bytes": 2**20}
        >>> cost |= {"latency": {"1": {"min": 0.1, "median": 0.2, "p99": 0.3}}, "memory": {"1": 2**21}}
        >>> columns({"kd": cost})[1]
        {'kd': ['1,500', '3.00 M', '1.00', '0.10 / 0.20 / 0.30', '2.00']}
    """
    batches = list(dict.fromkeys(b for x in trainings.values() for b in x["latency"]))
    heads = ["parameters", "FLOPs per row", "MiB on disk"]
    for b in batches:
        heads += [f"ms for {b} (min / median / p99)", f"MiB of memory for {b}"]
    cells = {}
    for name, x in trainings.items():
        operations = "–" if x["operations"] is None else f"{x['operations'] / 1e6:.2f} M"
        cells[name] = [f"{x['parameters']:,}", operations, f"{x['bytes'] / 2**20:.2f}"]
        for b in batches:
            times, needed = x["latency"].get(b), x["memory"].get(b)
            cells[name].append(
                "–" if times is None else " / ".join(f"{times[k]:.2f}" for k in ("min", "median", "p99"))
            )
            cells[name].append("–" if needed is None else f"{needed / 2**20:.2f}")
    return heads, cells


def _call(student: Student, rows: int) -> tuple[Any, dict[str, Any], Any]:
    """Return the call of a student, a batch of random numbers, and the compiled program."""
    draw = np.random.default_rng(0)
    batch = {}
    for name, row in student.inputs.items():
        shape = (rows, *row.shape)
        if jnp.issubdtype(row.dtype, jnp.inexact):
            batch[name] = jnp.asarray(draw.normal(size=shape), row.dtype)
        else:
            batch[name] = jnp.ones(shape, row.dtype)
    function, variables = getattr(student.call, "func"), getattr(student.call, "args")  # noqa: B009  a partial
    compiled = function.lower(*variables, batch).compile()
    return lambda b: compiled(*variables, b), batch, compiled


def _timed(calls: Mapping[str, Any], count: int) -> dict[str, list[float]]:
    """Return milliseconds of each call; the models take turns."""
    times: dict[str, list[float]] = {n: [] for n in calls}
    for i in range(_WARM + count):
        for name, (call, batch, _) in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call(batch))
            if i >= _WARM:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times
