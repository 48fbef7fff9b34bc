"""Exported forms of a trained student, each checked against the run before it is written."""

import functools
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.deploy import check, folder, fresh_process, onnx_int8, program, quantization, readme
from mmkd_jax.deploy.onnx_file import converted
from mmkd_jax.deploy.student import Student, of_artifact
from mmkd_jax.errors import UserError
from mmkd_jax.training.training import Training

_EXAMPLES = 8


class Source(NamedTuple):
    """A trained student, with the training that it comes from.

    Attributes:
        place: folder of the student in the run.
        training: the training, as in the experiment.
        metric: metric of its task on the test split, as the run recorded it.
    """

    place: pathlib.Path
    training: Training
    metric: float


def stablehlo(
    source: Source, out: pathlib.Path, int8: bool = False, tolerance: float = 1.0, log: files.Log = print
) -> None:
    """Export a student as a StableHLO program with its variables, which jax alone runs.

    Args:
        source: the student.
        out: output folder; an earlier export is replaced.
        int8: quantize weights and activations with qwix.
        tolerance: largest fall of the task's metric by quantization, in points.
        log: called with one line for each check.

    Raises:
        UserError: the exported student differs from the run, or quantization costs more than the tolerance.
    """
    artifact = folder.read(source.place)
    student = of_artifact(source.place, artifact)

    def fill(new):
        if int8:
            _write_int8(source, artifact, new)
        else:
            shutil.copytree(source.place, new, dirs_exist_ok=True)
        signature = folder.read_signature(new)
        files.write(new / "README.md", readme.written(signature, readme.STABLEHLO, "jax flatbuffers"))
        _finish(source, student, new, f"in a fresh process with jax {jax.__version__} alone", int8, tolerance, log)
        size, before = (p.stat().st_size for p in (new / folder.VARIABLES, source.place / folder.VARIABLES))
        log(f"{folder.VARIABLES}: {size:,} bytes" + (f", {before:,} in float" if int8 else ""))

    write_export(out, fill)


def onnx(source: Source, out: pathlib.Path, int8: bool = False, tolerance: float = 1.0, log: files.Log = print) -> None:
    """Export a student as an ONNX file, which onnxruntime alone runs; arguments and errors as of `stablehlo`.

    With `int8`, weights are quantized for each output channel and activations by their range on validation rows.
    """
    onnx_package, runtime = _packages()
    artifact = folder.read(source.place)
    student = of_artifact(source.place, artifact)
    training = quantization.without_rounding(source.training)
    function = program.function_of(training)
    _check_variables(source, artifact.variables, function.variables)

    def fill(new):
        variables = {n: artifact.variables[n] for n in function.variables}
        model = converted(function.run, variables, function.rows, student.batch)
        large = sum(x.nbytes for x in variables.values()) > 2**30
        path = new / "model.onnx"
        with files.reported(path):
            onnx_package.save_model(model, path, save_as_external_data=large, location="model.onnx.data")
        before = path.stat().st_size
        if int8:
            calibration = (_columns(b, student) for b in training.validation.eval_batches())
            onnx_int8.quantize(path, calibration)
        saved = {k: student.signature[k] for k in ("experiment", "training", "model", "seed", "inputs", "outputs")}
        saved |= {k: student.signature[k] for k in ("task", "classes", "batch", "parameters", "versions")}
        saved |= {"onnx": {"opset": model.opset_import[0].version, "sha256": files.sha256(path), "int8": int8}}
        files.write_json(new / folder.SIGNATURE, {"format": "onnx 1", **saved})
        _copy_preprocessing(source.place, new)
        files.write(new / "README.md", readme.written(saved, readme.ONNX, "onnxruntime numpy"))
        where = f"in a fresh process with onnxruntime {runtime.__version__} alone"
        _finish(source, student, new, where, int8, tolerance, log)
        log(f"model.onnx: {path.stat().st_size:,} bytes" + (f", {before:,} in float" if int8 else ""))

    write_export(out, fill)


def safetensors(source: Source, out: pathlib.Path, log: files.Log = print) -> None:
    """Export the variables of a student, with its signature and the configuration of its module.

    Args:
        source: the student.
        out: output folder; an earlier export is replaced.
        log: called with one line for each check.
    """
    artifact = folder.read(source.place)

    def fill(new):
        shutil.copy(source.place / folder.VARIABLES, new)
        if artifact.module is not None:
            shutil.copy(source.place / folder.MODULE, new)
        saved = {k: v for k, v in artifact.signature.items() if k not in ("format", "program", "platforms")}
        files.write_json(new / folder.SIGNATURE, {"format": "safetensors 1", **saved})
        _copy_preprocessing(source.place, new)
        text = readme.written(saved, readme.SAFETENSORS, "safetensors numpy", example=False)
        files.write(new / "README.md", text)
        names = artifact.signature["variables"]["names"]
        log(f"{len(names)} variables, {artifact.signature['parameters']:,} parameters, verified by their SHA-256")

    write_export(out, fill)


def precision(training: Training) -> float:
    """Return the largest difference allowed, by the dtypes that a student computes in."""
    function = program.function_of(training)
    batch = {k: jax.ShapeDtypeStruct((2, *s.shape), s.dtype) for k, s in function.rows.items()}
    text = str(jax.make_jaxpr(function.run)(function.variables, batch))
    return check.HALF if "bf16[" in text or "f16[" in text.replace("bf16[", "") else check.FLOAT32


def _finish(source, student, new, where, int8, tolerance, log) -> None:
    """Check the exported student in a fresh process, and write example rows."""
    training, task = source.training, source.training.task
    dtypes = {n: s.dtype for n, s in student.outputs.items()}
    example: dict[str, Any] = {}

    def exported():
        every = (_columns(b, student) for b in training.test.eval_batches())
        first = _columns(next(iter(training.test.eval_batches())), student)
        for found in fresh_process.outputs(new, every, dtypes, student.batch):
            if not example:
                example.update({f"inputs.{k}": x[:_EXAMPLES] for k, x in first.items()})
                example.update({f"outputs.{k}": x[:_EXAMPLES] for k, x in found.items()})
            yield found

    original = functools.partial(outputs_of, student)
    result = check.compared(task, training.test.eval_batches, original, exported(), source.metric)
    with files.reported(new / "example.npz"):
        np.savez(new / "example.npz", **example)
    allowed = None if int8 else precision(training)
    if allowed is None:
        check.check_fall(result, tolerance, task)
    else:
        check.check_same(result, allowed, task)
    log(check.line(result, task, where, allowed))


def _columns(batch: Mapping[str, Any], student: Student) -> dict[str, np.ndarray]:
    rows = len(next(iter(batch.values())))
    filled = {"valid": np.ones(rows, bool), **batch}
    return {k: np.asarray(filled[k]) for k in student.inputs}


def outputs_of(student: Student, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Outputs of the student of the run on a batch."""
    columns = _columns(batch, student)
    rows = len(next(iter(columns.values())))
    each, found = student.batch or rows, []
    for first in range(0, rows, each):
        piece = {k: x[first : first + each] for k, x in columns.items()}
        lacking = each - len(next(iter(piece.values())))
        piece = {k: np.concatenate([x, np.repeat(x[:1], lacking, 0)]) for k, x in piece.items()}
        found.append(jax.device_get(student.call(piece)))
    return {k: np.concatenate([x[k] for x in found])[:rows] for k in found[0]}


def _write_int8(source, artifact, new) -> None:
    like = source.training.shapes(source.training.evaluate)[0]
    names = program.flat(like)
    _check_variables(source, artifact.variables, names)
    tree = jax.tree.unflatten(jax.tree.structure(like), [artifact.variables[n] for n in names])
    training, variables = quantization.quantized(source.training, tree)
    with quantization.refused_in_one_line():
        exported = program.export_training(training)
    signature = artifact.signature
    about = {k: signature[k] for k in ("experiment", "training", "model", "seed")}
    folder.write(
        new,
        exported,
        {n: np.asarray(x) for n, x in program.flat(variables).items()},
        about={**about, "quantization": "int8"},
        task={k: x for k, x in signature["task"].items() if k != "logits"},
        classes=signature["classes"],
        preprocess=artifact.preprocess,
    )


def _check_variables(source, found, expected) -> None:
    """Raise if the experiment defines another model than the run trained."""
    for name, x in expected.items():
        if name not in found or found[name].shape != x.shape:
            raise UserError(
                f"variable {name!r} of the experiment's model is not in {source.place}, or has another shape there: "
                "the experiment has changed since the run; give the file as it was with --experiment"
            )


def _copy_preprocessing(place: pathlib.Path, new: pathlib.Path) -> None:
    left_out = {folder.SIGNATURE, folder.PROGRAM, folder.VARIABLES, folder.MODULE}
    for path in place.iterdir():
        if path.name not in left_out:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, new / path.name)


def write_export(out: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> None:
    """Write an output folder atomically, in place of an earlier export only."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "README.md").is_file())):
        raise UserError(f"{out} is not an earlier export: use another folder (--out)")
    files.write_folder(out, fill)


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX needs the package {error.name}: pip install 'mmkd_jax[onnx]'") from None
    return onnx, onnxruntime
