"""The folder of a student: program, variables, signature and preprocessing, without pickle or code."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

import mmkd_jax
from mmkd_jax import files, foreign_files, variables_file
from mmkd_jax.data.preprocess import Preprocessing, saved
from mmkd_jax.deploy.exported import Exported, predictions_of
from mmkd_jax.errors import UserError, choices, shown

FORMAT = 1
SIGNATURE, PROGRAM, VARIABLES, MODULE = "signature.json", "program.stablehlo", "variables.safetensors", "module.json"
FAILED = "failed.json"
"""Instead of the others: why a training has no student."""
_MOST = 2**44
"""Maximum size of a file, in bytes: that of the variables of any model."""
_DTYPES = "bool uint8 uint16 uint32 int8 int16 int32 float16 bfloat16 float32".split()


class Artifact(NamedTuple):
    """The content of a student's folder.

    Attributes:
        signature: the content of `signature.json`.
        program: the program, `(variables, batch) -> outputs`.
        variables: name -> variable.
        preprocess: steps from raw inputs to columns.
        module: configuration of the module, if it is one of `mmkd_jax.models`.
    """

    signature: dict[str, Any]
    program: export.Exported
    variables: dict[str, np.ndarray]
    preprocess: tuple[Preprocessing, ...]
    module: dict[str, Any] | None


def write(
    folder: pathlib.Path,
    exported: Exported,
    variables: Mapping[str, np.ndarray],
    *,
    about: Mapping[str, Any],
    task: Mapping[str, str],
    classes: Sequence[str] = (),
    preprocess: Sequence[Preprocessing] = (),
    module: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder of a student, atomically.

    Args:
        folder: output folder; an existing one is replaced.
        exported: the program.
        variables: name -> value of each variable of the program.
        about: origin of the model: experiment, training, model, seed.
        task: name, problem and metric of the task.
        classes: names of the classes, in the order of the logits.
        preprocess: steps from raw inputs to columns.
        module: configuration of the module.
    """

    def described(shape):
        return {"dtype": np.dtype(shape.dtype).name, "shape": [exported.batch or "b", *shape.shape]}

    def fill(new):
        files.write(new / PROGRAM, exported.program)
        signature = {
            "format": FORMAT,
            **about,
            "inputs": {k: described(s) for k, s in exported.inputs.items()},
            "outputs": {n: described(s) for n, s in exported.outputs.items()},
            "task": {**task, "logits": exported.logits},
            "classes": list(classes),
            "batch": exported.batch,
            "platforms": list(exported.platforms),
            "operations": exported.operations,
            "parameters": sum(int(np.size(x)) for n, x in variables.items() if n.startswith("params.")),
            "variables": {
                "sha256": variables_file.write_variables(new / VARIABLES, dict(variables)),
                "names": {n: {"dtype": np.dtype(x.dtype).name, "shape": list(x.shape)} for n, x in variables.items()},
            },
            "program": {"sha256": hashlib.sha256(exported.program).hexdigest()},
        }
        if module is not None:
            text = json.dumps(module, indent=1) + "\n"
            files.write(new / MODULE, text)
            signature["module"] = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
        for name, content in (contents := saved.encoded(preprocess)).items():
            files.write(new / name, content)
        signature["preprocess"] = {"sha256": hashlib.sha256(contents[saved.FILE]).hexdigest()}
        signature["versions"] = {"mmkd_jax": mmkd_jax.__version__, "jax": jax.__version__}
        files.write_json(new / SIGNATURE, signature)

    files.write_folder(folder, fill)


def write_failure(folder: pathlib.Path, reason: str) -> None:
    """Write why a training has no student, in place of the student."""
    files.write_folder(folder, lambda new: files.write_json(new / FAILED, {"reason": reason}))


def read_signature(folder: pathlib.Path) -> dict[str, Any]:
    """Read the signature of a student: its inputs, outputs, classes and task.

    Raises:
        UserError: the folder is not that of a student, is damaged, or was written in another format.
    """
    path = folder / SIGNATURE
    if (failed := folder / FAILED).is_file():
        raise UserError(f"{folder} has no student: {shown(files.read_json(failed)['reason'], 300)}")
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a student: it has no {SIGNATURE}")
    if (size := foreign_files.size_of(path)) > foreign_files.MOST_JSON:
        raise UserError(f"{path} has {size:,} bytes; expected at most {foreign_files.MOST_JSON:,}")
    try:
        signature = files.read_json(path)
    except files.Damaged as error:
        raise UserError(f"{path} is damaged ({shown(error.reason)}): {_AGAIN}") from None
    except RecursionError:
        raise UserError(f"{path} is damaged (it is nested too deeply): {_AGAIN}") from None
    if str(signature.get("format")).startswith(("onnx", "safetensors")):
        raise UserError(f"{folder} is an export that mmkd.load does not read: its README.md shows how to load it")
    if signature.get("format") != FORMAT:
        versions = signature.get("versions")
        by = versions.get("mmkd_jax") if isinstance(versions, dict) else None
        raise UserError(
            f"{folder} has format {shown(signature.get('format'))}, of mmkd_jax {shown(by)}; this version reads format "
            f"{FORMAT}: install that version, or run the experiment again with this one"
        )
    try:
        _check(signature)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not valid ({shown(str(error))}): {_AGAIN}") from None
    return signature


def verify(folder: pathlib.Path) -> dict[str, Any]:
    """Return the signature of a student, after comparing each of its files with its recorded hash.

    Raises:
        UserError: an error of `read_signature`, or a file is missing, damaged or edited.
    """
    signature = read_signature(folder)
    hashes = {PROGRAM: signature["program"], VARIABLES: signature["variables"], saved.FILE: signature["preprocess"]}
    hashes |= {MODULE: signature["module"]} if "module" in signature else {}
    for name, entry in hashes.items():
        content = _verified(folder / name, entry["sha256"])  # of one file at a time
        if name == saved.FILE:
            for name, sha256 in foreign_files.json_object(content, folder / saved.FILE)["files"].items():
                _verified(folder / name, sha256)
    return signature


def read(folder: pathlib.Path) -> Artifact:
    """Read the folder of a student, and verify each file by its hash.

    Raises:
        UserError: the folder is not that of a student, is damaged, or was written by a version that this one cannot
            read.
    """
    signature = read_signature(folder)
    code = _verified(folder / PROGRAM, signature["program"]["sha256"])
    try:
        program = export.deserialize(bytearray(code))
    except Exception as error:  # jax has no common exception for programs that it cannot read
        raise UserError(
            f"{folder / PROGRAM} was written by jax {shown(signature['versions']['jax'])} and cannot be read by jax "
            f"{jax.__version__} ({shown(str(error).splitlines()[0] if str(error) else type(error).__name__)}): install "
            "that version, or run the experiment again"
        ) from None
    variables = variables_file.read_flat(folder / VARIABLES, signature["variables"]["sha256"])
    _check_variables(folder / VARIABLES, variables, signature["variables"]["names"])
    _check_program(folder / PROGRAM, program, signature)
    steps = saved.decoded(folder, _verified(folder / saved.FILE, signature["preprocess"]["sha256"]))
    module = None
    if "module" in signature:
        text = _verified(folder / MODULE, signature["module"]["sha256"])
        module = foreign_files.json_object(text, folder / MODULE)
    return Artifact(signature, program, variables, steps, module)


_AGAIN = "copy the folder again, or remove it and run the experiment again, which writes it"


def _verified(path: pathlib.Path, sha256: str) -> bytes:
    data = foreign_files.read_bytes(path, _MOST)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} is damaged or edited: it has another SHA-256 than {SIGNATURE} records; {_AGAIN}")
    return data


def _check(signature: Mapping[str, Any]) -> None:
    """Raise a ValueError, TypeError or KeyError for a signature that `write` would not write."""
    kinds = {"experiment": str, "training": str, "model": str, "seed": int, "inputs": dict, "outputs": dict}
    kinds |= {"task": dict, "classes": list, "platforms": list, "parameters": int, "versions": dict}
    for name, kind in kinds.items():
        if not isinstance(signature[name], kind):
            raise TypeError(f"{name} is not {kind.__name__}")
    for name in ("name", "problem", "metric", "logits"):
        if not isinstance(signature["task"][name], str):
            raise TypeError(f"task.{name} is not a text")
    if not isinstance(each := signature["task"].get("tasks", {}), dict):
        raise TypeError("task.tasks is not a mapping")
    for name, one in each.items():
        if set(one) != {"problem", "classes"} or not isinstance(one["classes"], list):
            raise TypeError(f"task.tasks.{name} is not a problem with names of classes")
        if not all(isinstance(x, str) for x in [one["problem"], *one["classes"]]):
            raise TypeError(f"task.tasks.{name} is not a problem with names of classes")
    for name in ("program", "variables", "preprocess", *["module"] * ("module" in signature)):
        if not isinstance(signature[name]["sha256"], str):
            raise TypeError(f"{name}.sha256 is not a text")
    if not all(isinstance(x, str) for x in [*signature["classes"], *signature["platforms"]]):
        raise TypeError("classes and platforms are not texts")
    if not isinstance(signature["versions"]["jax"], str):
        raise TypeError("versions.jax is not a text")
    batch = signature["batch"]
    if batch is not None and not (type(batch) is int and 1 <= batch <= 2**20):
        raise ValueError("batch is not a number of rows")
    for kind in ("inputs", "outputs"):
        for name, entry in signature[kind].items():
            first, *row = entry["shape"]
            if entry["dtype"] not in _DTYPES or not all(type(n) is int and n >= 0 for n in row):
                raise ValueError(f"{kind}.{name} is {entry}")
            if first != (batch or "b"):
                raise ValueError(f"{kind}.{name} has {first} rows")
    if signature["task"]["logits"] and signature["task"]["logits"] not in signature["outputs"]:
        raise ValueError("task.logits is not an output")
    if not predictions_of(signature["outputs"]):
        raise ValueError("there is no output prediction")


def _check_variables(path, variables, names) -> None:
    found = {n: f"{x.dtype}{list(x.shape)}" for n, x in variables.items()}
    recorded = {n: f"{x['dtype']}{list(x['shape'])}" for n, x in names.items()}
    variables_file.check_same_leaves(path, found, recorded)


def _check_program(path, program, signature) -> None:
    """Raise if a program takes or returns something else than its signature says."""
    arguments, _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    results = jax.tree.unflatten(program.out_tree, program.out_avals)
    free = signature["batch"] or "b"

    def described(avals):
        return {k: [np.dtype(x.dtype).name, free, *x.shape[1:]] for k, x in avals.items()}

    def recorded(entries):
        return {k: [x["dtype"], *x["shape"]] for k, x in entries.items()}

    same = len(arguments) == 2 and {*arguments[0]} == {*signature["variables"]["names"]}
    same = same and described(arguments[1]) == recorded(signature["inputs"])
    if not same or described(results) != recorded(signature["outputs"]):
        raise UserError(f"{path} takes or returns other columns than {SIGNATURE} says; {_AGAIN}")


def find(path: pathlib.Path, training: str | None, seed: int) -> pathlib.Path:
    """Return the folder of a student: the path itself, or that of a training and seed of a run.

    Raises:
        UserError: the folder, run, training or seed does not exist; names the existing ones.
    """
    if training is None:
        if (path / SIGNATURE).is_file() or (path / FAILED).is_file():
            return path
        if found := _trainings(path):
            raise UserError(f"{path} is the folder of a run: name one of its trainings: {choices(found)}")
        raise UserError(f"{path} is not the folder of a student: it has no {SIGNATURE}")
    found = _trainings(path)
    if not found:
        runs = [p.name for p in path.parent.glob("*") if _trainings(p)]
        near = f"; runs in {path.parent} are: {choices(runs)}" if runs else ""
        raise UserError(f"{path} is not the folder of a run{near}")
    if training not in found:
        raise UserError(f"{path} has no training {training!r}; its trainings are: {choices(found)}")
    folder = path / "trainings" / training / str(seed) / "student"
    if folder.is_dir():
        return folder
    if not (folder.parent / "result.json").is_file():
        seeds = [p.parent.name for p in folder.parent.parent.glob("*/result.json")]
        raise UserError(f"training {training!r} has no finished seed {seed}; finished are: {choices(seeds)}")
    if others := [n for n in found if (path / "trainings" / n / str(seed) / "student").is_dir()]:
        raise UserError(
            f"training {training!r} trains nothing and leaves no student: use the training that its model comes from; "
            f"those with students are: {choices(others)}"
        )
    raise UserError(
        f"training {training!r} has no student with seed {seed}: it trains nothing, or an earlier version of mmkd_jax "
        "ran it; run the experiment again, which writes it"
    )


def _trainings(run: pathlib.Path) -> list[str]:
    return sorted(p.name for p in (run / "trainings").glob("*") if p.is_dir())


def row_of(entry: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of one row of an input or output of a signature."""
    return jax.ShapeDtypeStruct(tuple(entry["shape"][1:]), jnp.dtype(entry["dtype"]))
