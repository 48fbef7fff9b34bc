"""A student of a pretrained family as a folder that transformers loads, with a model card; and its upload."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import mmkd_jax
from mmkd_jax import files
from mmkd_jax.core.model import predict
from mmkd_jax.deploy import check, exporting, folder, program
from mmkd_jax.deploy.exported import named_predictions
from mmkd_jax.deploy.student import load
from mmkd_jax.errors import UserError, shown
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen, MovingAverage
from mmkd_jax.training.training import Training

_UNKNOWN = "unknown"


def export(
    source: exporting.Source, trainings: Mapping[str, Training], out: pathlib.Path, log: files.Log = print
) -> None:
    """Export a student as a folder that transformers loads, and read it again to compare its outputs.

    Args:
        source: the student.
        trainings: all trainings of its experiment, for the model card.
        out: output folder; an earlier export is replaced.
        log: called with one line for each check.

    Raises:
        UserError: the model is not one of a pretrained family as it was loaded, or its outputs differ.
    """
    from mmkd_jax import pretrained  # imports all families

    training, artifact, student = source.training, folder.read(source.place), load(source.place)
    role = training.models[training.evaluate]
    role = training.models[role.of] if isinstance(role, MovingAverage) else role
    model = getattr(role, "model", None)
    origin = getattr(model, "origin", None)
    if origin is None:
        raise UserError(
            f"the model of {artifact.signature['training']!r} is not a pretrained one as it is, so that transformers "
            "has no class for it: use --to stablehlo, onnx or safetensors"
        )
    like = training.shapes(training.evaluate)[0]
    names = program.flat(like)
    variables = jax.tree.unflatten(jax.tree.structure(like), [artifact.variables[n] for n in names])
    labels = getattr(role, "labels", ()) or origin.labels

    def fill(new):
        pretrained.save(new, origin.kind, origin.module, variables, origin.processor, labels)
        described = {**artifact.signature, "classes": labels or artifact.signature["classes"]}  # in config.json's order
        files.write(new / "README.md", card(source, trainings, described, origin.kind))
        again = pretrained.load(new)
        network = training.networks[training.evaluate]
        run = jax.jit(functools.partial(predict, network))

        def outputs():
            for batch in training.test.eval_batches():
                found = run(_like(variables, again.variables), batch)
                found = {**found, **named_predictions(training.task.predict(found))}
                yield {n: np.asarray(found[n]) for n in student.outputs}

        original = functools.partial(exporting.outputs_of, student)
        found = check.compared(training.task, training.test.eval_batches, original, outputs(), source.metric)
        allowed = exporting.precision(training)
        check.check_same(found, allowed, training.task)
        log(check.line(found, training.task, "with the folder read again by pretrained.load", allowed))

    exporting.write_export(out, fill)


def _like(variables: Any, read: Any) -> Any:
    """Return the variables that were read, in the structure of a model's variables."""
    flat = program.flat(read)
    known = program.flat(variables)
    if lacking := [n for n in known if n not in flat]:
        raise UserError(f"{lacking[0]!r} is not saved in the format of this family: use --to stablehlo or safetensors")
    return jax.tree.unflatten(jax.tree.structure(variables), [flat[n] for n in known])


def card(source: exporting.Source, trainings: Mapping[str, Training], signature: Mapping[str, Any], kind: str) -> str:
    """Return the model card of a student; a license or name that is unknown is written as unknown."""
    training = source.training
    about = getattr(training.data.dataset, "about", {})
    data = training.data.dataset.fingerprint.get("name") or _UNKNOWN
    teachers = [f"- `{n}`: {_teacher(role)}" for n, role in training.models.items() if isinstance(role, Frozen)]
    losses = [f"- `{term}`: reads {', '.join(paths)}" for term, paths in training.reads.items()]
    task, metric = training.task, check.number(source.metric, training.task)
    classes = ", ".join(signature["classes"]) or _UNKNOWN
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "license: unknown",
            "tags: [distillation, mmkd_jax]",
            "---",
            "",
            f"# {signature['experiment']}: {signature['training']}, seed {signature['seed']}",
            "",
            f"A `{kind}` model with {signature['parameters']:,} parameters, trained by mmkd_jax "
            f"{mmkd_jax.__version__}.",
            "",
            "## Data",
            "",
            f"- {data}, {training.data.size:,} training rows; license: {shown(about.get('license', _UNKNOWN), 200)}",
            f"- classes: {classes}",
            "",
            "## Teachers",
            "",
            *(teachers or ["- none in this training"]),
            "",
            "## Losses",
            "",
            *losses,
            "",
            "## Metrics",
            "",
            f"- {task.metric} on the test split: {metric}",
            "",
            "## Licenses",
            "",
            "- of this model: unknown; weights that it started from and its teachers may restrict it",
            "",
        ]
    )


def _teacher(role: Frozen) -> str:
    if isinstance(role.init_from, str):
        return f"the result of {role.init_from}; license: {_UNKNOWN}"
    if isinstance(role.init_from, PretrainedVariables):
        return f"{'; '.join(role.init_from.origin) or _UNKNOWN}; license: {_UNKNOWN}"
    return f"{_UNKNOWN}; license: {_UNKNOWN}"


def push(out: pathlib.Path, repository: str) -> str:
    """Upload a folder to the Hugging Face hub, and return a line about it.

    Raises:
        UserError: there is no token, or the hub cannot be reached.
    """
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise UserError(f"--push {repository}: no token of the hub; set HF_TOKEN, or log in with `hf auth login`")
    try:
        interface = huggingface_hub.HfApi()
        interface.create_repo(repository, exist_ok=True)
        interface.upload_folder(folder_path=out, repo_id=repository)
    except Exception as error:  # any error of its HTTP library
        first = shown((str(error).strip().splitlines() or [type(error).__name__])[0], 200)
        raise UserError(f"--push {repository}: the upload failed ({first}); the folder is {out}") from error
    return f"uploaded to {repository}"
