"""The commands `mmkd export` and `mmkd measure`."""

import dataclasses
import pathlib
import shlex
import sys
from typing import Any, Literal

from mmkd_jax import files
from mmkd_jax.cli import parsing
from mmkd_jax.errors import UserError, choices

EXPORT = "usage: mmkd export RUN TRAINING --to stablehlo|onnx|safetensors|hf [--seed N] [--int8] [--out DIR]"
MEASURE = "usage: mmkd measure RUN [--seed N] [--batch N …]: cost of teacher and students side by side"


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Options of `mmkd export`."""

    to: Literal["stablehlo", "onnx", "safetensors", "hf"]
    """stablehlo runs with jax alone, onnx with onnxruntime alone; safetensors are the variables; hf is a folder that
    transformers loads, of a pretrained family."""
    seed: int = 0
    """Which of the training's seeds."""
    int8: bool = False
    """Quantize to int8: by qwix (stablehlo), or by onnxruntime with validation rows (onnx)."""
    tolerance: float = 1.0
    """Largest fall of the task's metric by --int8, in points."""
    out: pathlib.Path | None = None
    """Output folder; default RUN/exports/TRAINING-SEED-FORM."""
    experiment: pathlib.Path | None = None
    """The experiment's file, if it is not where it was when the run started."""
    push: str | None = None
    """Upload the folder of --to hf to this repository of the Hugging Face hub, OWNER/NAME."""

    def __post_init__(self):
        if self.int8 and self.to not in ("stablehlo", "onnx"):
            raise UserError(f"--int8 goes with --to stablehlo or onnx, not {self.to}")
        if self.push is not None and self.to != "hf":
            raise UserError(f"--push goes with --to hf, not {self.to}")
        if not self.tolerance >= 0:
            raise UserError(f"--tolerance is {self.tolerance}; expected points of the metric, at least 0")


@dataclasses.dataclass(frozen=True)
class MeasureOptions:
    """Options of `mmkd measure`."""

    seed: int = 0
    """Which of the trainings' seeds."""
    batch: tuple[int, ...] = (1, 32)
    """Batch sizes."""
    calls: int = 100
    """Timed calls of each model and batch size."""
    experiment: pathlib.Path | None = None
    """The experiment's file, if it is not where it was when the run started: pretrained teachers come from it."""

    def __post_init__(self):
        if not self.batch or min(self.batch) < 1 or self.calls < 1:
            raise UserError(f"--batch {self.batch} and --calls {self.calls}: expected numbers of at least 1")


def export(run: str, training: str, words: list[str]) -> None:
    """Export a trained student, check it against the run, and print a line for each check."""
    from mmkd_jax.cli import terminal

    prog = f"mmkd export {run} {training}"
    options: ExportOptions = parsing.parsed(ExportOptions, words, prog)
    from mmkd_jax.deploy import exporting, folder, hub

    terminal.keep_programs()
    here, root = pathlib.Path.cwd(), pathlib.Path(run)
    place = folder.find(root, training, options.seed).absolute()
    folder.read_signature(place)
    out = options.out or root / "exports" / f"{training}-{options.seed}-{options.to}{'-int8' * options.int8}"
    result = files.read_json(place.parent / "result.json")
    trainings = _trainings(root, options.experiment)
    if training not in trainings:
        raise UserError(f"the experiment of {run} has no training {training!r}; it has: {choices(trainings)}")
    found = trainings[training].merged
    source = exporting.Source(place, found, result[found.task.metric])
    out = here / out  # the experiment may have changed the folder

    def log(line):
        print(line, file=sys.stderr)

    if options.to == "safetensors":
        exporting.safetensors(source, out, log)
    elif options.to == "hf":
        hub.export(source, trainings, out, log)
        if options.push is not None:
            log(hub.push(out, options.push))
    else:
        write = exporting.onnx if options.to == "onnx" else exporting.stablehlo
        write(source, out, options.int8, options.tolerance, log)
    print(out)


def measure(run: str, words: list[str]) -> None:
    """Measure the cost of every student and pretrained teacher of a run, and print and write it."""
    options: MeasureOptions = parsing.parsed(MeasureOptions, words, f"mmkd measure {run}")
    from mmkd_jax.deploy import measuring, pretrained_teachers
    from mmkd_jax.experiment import run_folder

    def log(line):
        print(line, file=sys.stderr)

    root, teachers = pathlib.Path(run).absolute(), {}  # the experiment may change the folder
    if (root / "config.json").is_file():
        try:
            trainings = _trainings(root, options.experiment)
            teachers = pretrained_teachers.pretrained_teachers(trainings, options.seed, log)
        except UserError as error:
            log(f"pretrained teachers are left out: {error}")
    machine = run_folder.provenance()
    costs = measuring.costs(root, options.seed, options.batch, options.calls, machine, teachers)
    print(measuring.write(root, costs))


def _found(run: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Return the experiment's file, from here or from a folder above the run; one of another content is refused."""
    try:
        known = {sources.get(path.name) for sources in files.read_json(run / "code.json").values()}
    except (FileNotFoundError, files.Damaged):
        return path
    there = [p for p in dict.fromkeys(parent / path for parent in (pathlib.Path(), *run.parents)) if p.is_file()]
    for candidate in there:
        if files.sha256(candidate)[:16] in known:
            return candidate
    if there:
        raise UserError(
            f"{there[0]} is not the experiment of {run}, or was changed since: go to its folder, or name its file with "
            "--experiment"
        )
    return path


def _trainings(run: pathlib.Path, file: pathlib.Path | None) -> dict[str, Any]:
    """Return the trainings of the experiment that a run comes from, with the options that it was run with."""
    from mmkd_jax.cli import running
    from mmkd_jax.experiment import definition

    try:
        config = files.read_json(run / "config.json")
    except FileNotFoundError:
        raise UserError(f"{run} is not the folder of a run: it has no config.json") from None
    words = shlex.split(config.get("command", ""))
    if len(words) < 3 and file is None:
        raise UserError(f"{run} was not made by `mmkd run`: name the file of its experiment with --experiment")
    path = file or _found(run, pathlib.Path(words[2]))
    if not path.is_file():
        raise UserError(f"the experiment {path} of {run} is not there: name its file with --experiment")
    experiment = definition.load(path)
    _, options, _ = running.parse(experiment, words[3:], f"mmkd run {path}")
    return experiment.trainings(options)
