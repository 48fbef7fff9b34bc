"""A trained model as a StableHLO program: batch size and platform are free, weights are arguments."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import jaxpr_as_fun
from jaxlib.mlir.dialects import stablehlo
from jaxlib.mlir.ir import Context as ProgramContext
from jaxlib.mlir.passmanager import PassManager

from mmkd_jax import tasks
from mmkd_jax.core.dependence import needed, used_inputs
from mmkd_jax.core.model import predict
from mmkd_jax.deploy.exported import Exported, named_predictions
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.operations import flops
from mmkd_jax.training.training import Training

PLATFORMS = ("cpu", "cuda", "tpu")
FIXED = 32
"""Rows of a program whose model does not run with a free batch size."""


def flat(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by dotted path.

    Raises:
        UserError: two leaves have the same dotted path.

    Example:
        >>> flat({"params": {"head": {"bias": 1}}})
        {'params.head.bias': 1}
    """
    leaves = [(jax.tree_util.keystr(p, simple=True, separator="."), x) for p, x in jax.tree.leaves_with_path(tree)]
    found = dict(leaves)
    if len(found) < len(leaves):
        names = [n for n, _ in leaves]
        twice = next(n for n in names if names.count(n) > 1)
        raise UserError(f"two variables have the path {twice!r}: rename one of them, without dots")
    return found


class Function(NamedTuple):
    """The evaluated model of a training, with its predictions, as a function of flat dicts.

    Attributes:
        run: `(variables, batch) -> outputs`: what the task reads, and its predictions, see `named_predictions`;
            variables are in their order.
        variables: name -> shape and dtype of each variable.
        rows: column of the data -> shape and dtype of one row.
        logits: name of the output whose softmax or sigmoid are the probabilities; empty without probabilities.
    """

    run: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    variables: dict[str, Any]
    rows: dict[str, jax.ShapeDtypeStruct]
    logits: str


def function_of(training: Training) -> Function:
    """Return the evaluated model of a training: the outputs that the task reads, and its predictions.

    Raises:
        UserError: an output that the task reads is not one array.
    """
    network, task = training.networks[training.evaluate], training.task
    like = training.shapes(training.evaluate)[0]
    spec = dict(training.test.spec)
    spec["valid"] = jax.ShapeDtypeStruct((len(next(iter(spec.values()))),), np.dtype(bool))
    outputs = jax.eval_shape(lambda v, batch: predict(network, v, batch), like, spec)
    (used,) = used_inputs(task.predict, outputs)
    predicts = [n for n in outputs if any(jax.tree.leaves(used[n]))]
    measures: Any = dict.fromkeys(outputs)
    with contextlib.suppress(KeyError):  # of a loader of the user's whose evaluation batches have more columns
        measures, _ = used_inputs(lambda *found: tasks.measure(task, *found), outputs, spec)
    reads = [n for n in outputs if n in predicts or any(jax.tree.leaves(measures[n]))]
    if trees := [n for n in reads if not isinstance(outputs[n], jax.ShapeDtypeStruct)]:
        raise UserError(f"output {trees[0]!r} is not one array")
    if taken := [n for n in reads if n.startswith("prediction.")]:
        raise UserError(f"output {taken[0]!r} has a name of the predictions of several tasks: rename it")
    logits = ""
    if task.problem in ("single_label_classification", "multi_label_classification"):
        if len(predicts) != 1 or "prediction" in predicts:
            raise UserError(
                f"the predictions of task {task.name!r} depend on the outputs {choices(predicts)}; expected one, with "
                "another name than 'prediction'"
            )
        (logits,) = predicts

    def run(variables, batch):
        batch = batch | {"valid": jnp.ones(next(iter(batch.values())).shape[0], bool)}
        found = predict(network, jax.tree.unflatten(jax.tree.structure(like), list(variables.values())), batch)
        return {n: found[n] for n in reads} | named_predictions(task.predict(found))

    rows = {k: jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for k, s in training.test.spec.items()}
    return Function(run, flat(like), rows, logits)


def export_training(training: Training, platforms: tuple[str, ...] = PLATFORMS) -> Exported:
    """Export the evaluated model of a training: the outputs that the task reads, and its predictions.

    Args:
        training: the training.
        platforms: platforms that the program runs on; a model that has no program for one of them is exported for the
            current one only.

    Raises:
        UserError: an output does not have one row for each row of the batch.
    """
    function = function_of(training)
    made = export_function(function.run, function.variables, function.rows, platforms)
    return made._replace(logits=function.logits)


def export_function(
    function: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    variables: Mapping[str, Any],
    rows: Mapping[str, jax.ShapeDtypeStruct],
    platforms: tuple[str, ...] = PLATFORMS,
) -> Exported:
    """Export a function of variables and a batch; equal functions give equal bytes.

    Args:
        function: `(variables, batch) -> outputs`, flat dicts; variables are in the given order.
        variables: name -> variable, or its shape and dtype.
        rows: column -> shape and dtype of one row.
        platforms: see `export_training`.

    Raises:
        UserError: an output does not have one row for each row of the batch.

    Example:
        >>> row = jax.ShapeDtypeStruct((2,), "float32")
        >>> found = export_function(lambda v, batch: {"y": batch["x"] @ v["w"]}, {"w": row}, {"x": row, "unused": row})
        >>> list(found.inputs), found.outputs["y"].shape, found.batch
        (['x'], (), None)
        >>> call = jax.export.deserialize(bytearray(found.program)).call
        >>> call({"w": jnp.ones(2)}, {"x": jnp.ones((3, 2))})["y"].tolist()
        [2.0, 2.0, 2.0]
    """
    names = list(variables)
    (free,) = export.symbolic_shape("b")
    own = (export.default_export_platform(),)
    failure: Exception | None = None
    for count in (free, FIXED):
        batch = {k: jax.ShapeDtypeStruct((count, *s.shape), s.dtype) for k, s in rows.items()}
        shapes = {n: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype) for n, x in variables.items()}
        try:
            program, tree, used = needed(lambda v, b: function({n: v[n] for n in names}, b), shapes, batch)
        except UserError:
            raise
        except Exception as error:  # a user's model may raise any error for a batch size that is not a number
            failure = error
            continue
        results = jax.tree.unflatten(tree, program.out_avals)
        _check_rows(results, count)
        columns = [k for k, use in used[1].items() if use]
        live = [n for n, use in used[0].items() if use]

        def run(variables, batch, program=program, live=live, columns=columns, tree=tree):
            call = jaxpr_as_fun(program)
            return jax.tree.unflatten(tree, call(*[variables[n] for n in live], *[batch[k] for k in columns]))

        for platform in dict.fromkeys((platforms, own)):
            try:
                made = export.export(jax.jit(run), platforms=platform)(shapes, {k: batch[k] for k in columns})
            except Exception as error:  # an operation without a free size, or without a program for a platform
                failure = error
                continue
            outputs = {n: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for n, x in results.items()}
            fixed = None if count is free else FIXED
            inputs = {k: rows[k] for k in columns}
            return Exported(
                bytes(_without_locations(made).serialize()),
                inputs,
                outputs,
                fixed,
                platform,
                "",
                count_rows(function, shapes, rows, fixed),
            )
    assert failure is not None
    raise failure


def count_rows(function: Callable, variables: Any, rows: Mapping[str, jax.ShapeDtypeStruct], batch: int | None) -> int:
    """Return the FLOPs of a function for one row."""
    names, count = list(variables), batch or 1
    columns = {k: jax.ShapeDtypeStruct((count, *s.shape), s.dtype) for k, s in rows.items()}
    return flops(lambda v, b: function({n: v[n] for n in names}, b), variables, columns) // count


def _check_rows(outputs: Mapping[str, Any], count: Any) -> None:
    for name, x in outputs.items():
        if not x.shape or x.shape[0] != count or not all(isinstance(n, int) for n in x.shape[1:]):
            raise UserError(
                f"output {name!r} has shape [{', '.join(map(str, x.shape))}] for a batch of {count} rows: expected one "
                "row for each row of the batch"
            )


def _without_locations(exported: export.Exported) -> export.Exported:
    """Remove the source locations, which are paths of this machine."""
    with ProgramContext() as context:
        stablehlo.register_dialect(context)
        module: Any = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        version = stablehlo.get_version_from_compatibility_requirement(
            stablehlo.StablehloCompatibilityRequirement.WEEK_4
        )
        code = stablehlo.serialize_portable_artifact(module, version)
    return dataclasses.replace(exported, mlir_module_serialized=code)
