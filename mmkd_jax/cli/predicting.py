"""The command `mmkd predict`: a trained student on new rows."""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import math
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mmkd_jax.cli import parsing
from mmkd_jax.errors import UserError, choices, shown

if TYPE_CHECKING:
    import jax

    from mmkd_jax.deploy import Student

USAGE = """usage: mmkd predict RUN TRAINING [--seed N] (--INPUT VALUE … | --table FILE) [--out FILE]

  RUN TRAINING        folder of a run, and one of its trainings; or the folder of a student alone
  --INPUT VALUE …     values of an input, such as --audio a.wav b.wav; an empty one is missing
  --table FILE        .csv, .tsv, .jsonl or .parquet with a column for each input; paths start from its folder

`mmkd predict RUN TRAINING --help` lists the inputs and further options."""
_FORMATS = (".jsonl", ".csv")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `mmkd predict`."""

    seed: int = 0
    """Which of the training's seeds."""
    table: pathlib.Path | None = None
    """Table with a column for each input: .csv, .tsv, .jsonl or .parquet; paths in it start from its folder."""
    label: str | None = None
    """Column of the table with the labels to compare with; prints the metric to standard error."""
    out: pathlib.Path | None = None
    """Write predictions to this .jsonl or .csv file; default JSON lines to standard output."""
    batch_size: int = 64
    """Rows that are read and predicted together."""

    def __post_init__(self):
        if self.batch_size < 1:
            raise UserError(f"--batch-size is {self.batch_size}; expected at least 1")
        if self.out is not None and self.out.suffix.lower() not in _FORMATS:
            raise UserError(f"--out {self.out}: expected a file that ends in {choices(_FORMATS)}")
        if self.label is not None and self.table is None:
            raise UserError("--label names a column of --table, which is not given")


def predict(words: Sequence[str]) -> None:
    """Predict rows from the command line or a table, and print or write them in order."""
    from mmkd_jax.cli import terminal  # lazy, so that --help and errors are fast
    from mmkd_jax.data.preprocess import saved
    from mmkd_jax.deploy import columns, folder, load

    named = list(itertools.takewhile(lambda w: not w.startswith("-"), words))
    if len(named) > 2:
        raise UserError(
            f"unexpected {shown(named[2])!r} after the run and the training: inputs have names, --INPUT VALUE"
        )
    found = folder.find(pathlib.Path(named[0]), named[1] if len(named) > 1 else None, _seed(words))
    signature = folder.read_signature(found)
    spec = {k: folder.row_of(x) for k, x in signature["inputs"].items()}
    steps = saved.read(found)
    kinds = columns.kinds(spec, steps)
    options, given = _parse(words[len(named) :], kinds, f"mmkd predict {' '.join(named)}")
    source = _from_table(options, kinds) if options.table else _from_options(given, kinds, spec)
    truth = _labels(options, source, signature)
    terminal.keep_programs()
    student = load(found)
    with contextlib.ExitStack() as stack:
        writer = _writer(stack, options, source, student)
        began, first, right = time.perf_counter(), 0.0, []
        for start in range(0, source.size, options.batch_size):
            rows = slice(start, start + options.batch_size)
            some = {k: x if x is None else x[rows] for k, x in source.inputs.items()}
            predictions = student.predict(some, options.batch_size, start)
            writer(start, predictions)
            right.append(predictions.prediction)
            first = first or time.perf_counter() - began
    seconds = time.perf_counter() - began
    speed = f"{source.size:,} rows in {seconds:.2f} s, {source.size / seconds:,.0f} a second"
    print(f"{speed}; the first batch took {first:.2f} s, with its compilation", file=sys.stderr)
    if truth is not None:
        print(_metric(truth, right, signature), file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class _Source:
    """Rows to predict.

    Attributes:
        size: number of rows.
        inputs: input -> raw value of each row, or None if all rows lack it.
        shown: input -> what the output repeats of each row.
        table: the table, if they are from one.
    """

    size: int
    inputs: Mapping[str, Sequence[Any] | None]
    shown: Mapping[str, Sequence[Any]]
    table: Any = None


def _seed(words: Sequence[str]) -> int:
    """Return the option --seed, which the student's other options depend on."""
    text = " ".join(words)
    match = re.search(r"(?:^| )--seed[ =](\S+)", text)
    if match is None:
        return 0
    if not re.fullmatch(r"\d{1,9}", match[1]):
        raise UserError(f"--seed: invalid value {match[1]!r}, expected INT")
    return int(match[1])


def _parse(words: Sequence[str], kinds: Mapping[str, str], prog: str) -> tuple[Options, dict[str, tuple[str, ...]]]:
    """Parse the options, and the values of each input."""
    flat = tyro.conf.arg(name="")
    about = {"text": "texts", "number": "numbers", "path": "paths", "array": "a column without declared steps: --table"}
    known = {f.name.replace("_", "-") for f in dataclasses.fields(Options)}
    names = [n for n in kinds if n not in known and re.fullmatch(r"[A-Za-z][\w.-]*", n)]  # others: by a table
    fields: list[Any] = [("options", Annotated[Options, flat], Options())]
    for i, name in enumerate(names):
        arg = tyro.conf.arg(name=name, help=f"Values of the input {name!r}: {about[kinds[name]]}.", metavar="VALUE …")
        fields.append((f"input_{i}", Annotated[tuple[str, ...], arg], ()))
    both = dataclasses.make_dataclass("Predict", fields, frozen=True)
    both.__doc__ = "Predict new rows with a trained student, in order, as JSON lines or a table."
    parsed = parsing.parsed(both, list(words), prog)
    given = {n: getattr(parsed, f"input_{i}") for i, n in enumerate(names)}
    return parsed.options, {n: x for n, x in given.items() if x}


def _from_options(
    given: Mapping[str, tuple[str, ...]], kinds: Mapping[str, str], spec: "Mapping[str, jax.ShapeDtypeStruct]"
) -> _Source:
    if not given:
        raise UserError(f"no rows: give {', '.join(f'--{k}' for k in kinds)}, or --table")
    inputs: dict[str, list[Any] | None] = {}
    for name, kind in kinds.items():
        if name not in given:
            if not any(k.startswith("present.") for k in spec):
                raise UserError(f"--{name} is missing: this student reads {choices(kinds)}")
            inputs[name] = None
            continue
        inputs[name] = [_value(name, kind, i, x) for i, x in enumerate(given[name])]
    sizes = {f"--{k}": len(x) for k, x in given.items()}
    if len({*sizes.values()}) > 1:
        counts = ", ".join(f"{k} {n}" for k, n in sizes.items())
        raise UserError(f'the inputs have different numbers of values: {counts}; "" is a missing one')
    return _Source(next(iter(sizes.values())), inputs, given)


def _value(name: str, kind: str, row: int, text: str) -> Any:
    if not text.strip():
        return None
    if kind != "number":
        return pathlib.Path(text) if kind == "path" else text
    from mmkd_jax.data.raw import cells

    value = cells.number(text)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--{name} {shown(text)} (row {row}): expected a number, or a list of them such as [1, 2]")
    return value


def _from_table(options: Options, kinds: Mapping[str, str]) -> _Source:
    from mmkd_jax.data.raw import table_file
    from mmkd_jax.data.raw.from_files import raw_values

    assert options.table is not None
    if options.out is not None and options.out.absolute() == options.table.absolute():
        raise UserError(f"--out and --table are both {options.out}: choose another file for the predictions")
    table = table_file.read(options.table, [*kinds] if options.label is None else [*kinds, options.label])
    inputs = {k: raw_values(table, k, "number" if kind == "array" else kind) for k, kind in kinds.items()}
    repeated = {k: table.columns[k] for k, kind in kinds.items() if kind in ("text", "number", "path")}
    return _Source(table.size, inputs, repeated, table)


_COMPARED = ("single_label_classification", "visual_questions", "ordinal", "regression")
"""Problems of which a column of a table has the label of a row."""


def _labels(options: Options, source: _Source, signature: Mapping[str, Any]) -> list[Any] | None:
    """Return the label of each row, None where it is empty; refuse those that the training never had."""
    from mmkd_jax.data.raw.from_files import raw_values

    if options.label is None:
        return None
    task, classes = signature["task"], signature["classes"]
    if task["problem"] not in _COMPARED:
        raise UserError(
            f"--label: labels of task {task['name']!r} are not compared here, only those of classification, "
            "visual_questions, ordinal and regression: compare the predictions yourself"
        )
    if task["problem"] == "regression":
        return raw_values(source.table, options.label, "number")
    names = classes
    if not names and task["problem"] == "single_label_classification" and task["logits"]:
        names = [str(i) for i in range(signature["outputs"][task["logits"]]["shape"][-1])]
    found = [None if x is None else str(x).strip() for x in source.table.columns[options.label]]
    for i, x in enumerate(found):
        if x is not None and names and x not in names:
            known = choices(names) if len(names) <= 20 else f"{len(names)} others"
            raise UserError(f"{source.table.row(i)}: label {shown(x)!r} is not a class of the student: {known}")
        if x is not None and not names and not re.fullmatch("0|[1-9][0-9]{0,8}", x):
            raise UserError(
                f"{source.table.row(i)}: label {shown(x)!r}; the classes have no names: expected numbers from 0"
            )
    return found


def _metric(truth: Sequence[Any], predictions: Sequence[Any], signature: Mapping[str, Any]) -> str:
    import numpy as np

    known = np.array([x is not None for x in truth])
    if not known.any():
        return "no row has a label"
    problem, classes = signature["task"]["problem"], signature["classes"]
    found, rows = np.concatenate(predictions)[known], f"on {known.sum():,} rows with a label"
    labels = [x for x in truth if x is not None]
    if problem == "regression":
        error = np.abs(found.astype(np.float64).reshape(len(labels), -1)[:, 0] - np.array(labels, np.float64)).mean()
        return f"mean absolute error {error:.4g} {rows}"
    right = found.astype(str) == np.array(labels)
    said = f"accuracy {100 * right.mean():.1f} %"
    if problem == "ordinal":
        levels = np.array([[classes.index(str(x)) if classes else int(x) for x in each] for each in (found, labels)])
        error = np.abs(levels[0] - levels[1]).mean()
        said += f", mean absolute error {error:.4g} levels"
    return f"{said} {rows}"


def _writer(stack: contextlib.ExitStack, options: Options, source: _Source, student: "Student"):
    """Return `(first row, predictions) -> None`, which writes rows as JSON lines, or as CSV by the suffix of --out."""
    from mmkd_jax.deploy.exported import predictions_of

    file: Any = sys.stdout if options.out is None else stack.enter_context(_replaced(options.out))
    if options.out is None or options.out.suffix.lower() == ".jsonl":

        def json_lines(start, predictions):
            for row in _rows(start, predictions, source, student):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()

        return json_lines
    names = ["row", *source.shown, *predictions_of(student.outputs)]
    if student.task["logits"]:
        width = student.outputs[student.task["logits"]].shape[-1]
        names += ["probability"] * (student.task["problem"] == "single_label_classification")
        names += [f"probability.{c}" for c in student.classes or range(width)]
    table = csv.writer(file, lineterminator="\n")
    table.writerow(names)

    def cells(start, predictions):
        for row in _rows(start, predictions, source, student):
            flat = {**row.pop("inputs"), **row}
            if isinstance(flat["prediction"], dict):  # of several tasks
                flat |= {f"prediction.{n}": x for n, x in flat.pop("prediction").items()}
            flat |= {f"probability.{c}": p for c, p in flat.pop("probabilities", {}).items()}
            table.writerow([json.dumps(x) if isinstance(x, list | dict) else x for x in map(flat.get, names)])

    return cells


def _rows(start: int, predictions: Any, source: _Source, student: "Student") -> Iterator[dict[str, Any]]:
    found, several = predictions.prediction, isinstance(predictions.prediction, dict)
    tasks = {"": student.task, **student.task.get("tasks", {})}
    tags = {n for n, task in tasks.items() if task["problem"] == "token_classification"}
    plain = {n: _tags if n in tags else _plain for n in ({"", *found} if several else tasks)}
    for i in range(len(next(iter(found.values())) if several else found)):
        row: dict[str, Any] = {"row": start + i, "inputs": {k: x[start + i] for k, x in source.shown.items()}}
        row["prediction"] = {n: plain[n](x[i]) for n, x in found.items()} if several else plain[""](found[i])
        if predictions.probabilities is not None:
            each = predictions.probabilities[i]
            if student.task["problem"] == "single_label_classification":
                row["probability"] = _plain(each.max())
            row["probabilities"] = {
                str(c): _plain(p) for c, p in zip(student.classes or range(len(each)), each, strict=True)
            }
        yield row


def _tags(x: Any) -> list[Any]:
    """Return the tags of a text's tokens, without the padding after the last one that has a tag."""
    tags = _plain(x)
    while tags and tags[-1] in ("", -1):
        tags.pop()
    return tags


def _plain(x: Any) -> Any:
    """Return a number with the digits of its dtype, a text, or a list of them."""
    if isinstance(x, tuple):
        return list(x)
    if getattr(x, "ndim", 0):
        return [_plain(y) for y in x]
    return float(str(x)) if x.dtype.kind in "fV" else x.item()


@contextlib.contextmanager
def _replaced(path: pathlib.Path) -> Iterator[io.TextIOBase]:
    """Open a file for writing that takes its name at the end, when it is whole."""
    from mmkd_jax import files

    unfinished = path.with_name(f".{path.name}.part")
    with files.reported(path):
        try:
            with open(unfinished, "w", encoding="utf-8", newline="") as file:
                yield file
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
