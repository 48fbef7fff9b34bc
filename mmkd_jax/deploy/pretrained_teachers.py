"""Pretrained teachers of an experiment, which no training of it made, as models in use whose costs are measured."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from mmkd_jax import files
from mmkd_jax.core.model import predict
from mmkd_jax.core.state import initial_variables
from mmkd_jax.deploy import program
from mmkd_jax.deploy.measuring import Model
from mmkd_jax.deploy.student import Student
from mmkd_jax.errors import shown
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen
from mmkd_jax.training.training import Training


def pretrained_teachers(trainings: Mapping[str, Training], seed: int = 0, log: files.Log = print) -> dict[str, Model]:
    """Return the frozen models of an experiment whose variables come from outside, each once.

    Args:
        trainings: name -> Training.
        seed: seed of variables that a model's own `init` draws.
        log: called with a line for each model that cannot be exported, and is left out.

    Returns:
        Name -> model. The name is that of the training that evaluates the model and trains nothing, if there is one;
        otherwise that of the model, with its training in front if another has that name.
    """
    found: dict[str, Model] = {}
    known = set()
    for training_name, training in sorted(trainings.items(), key=lambda item: bool(item[1].trained)):
        for model, role in training.models.items():
            sources = {k: s for k, s in training.init_from.items() if k == model or k.startswith(f"{model}.")}
            given = {k: s.variables for k, s in sources.items() if isinstance(s, PretrainedVariables)}
            if not isinstance(role, Frozen) or len(given) < len(sources):
                continue
            try:
                variables = _variables(training, model, given, seed)
                teacher = _exported(training, model, variables)
            except Exception as error:  # as of students, a model of the user's may raise any
                log(f"{training_name}: model {model!r} is left out: it cannot be exported ({shown(str(error), 200)})")
                continue
            cost = PretrainedVariables(variables).fingerprint, teacher.student.signature["operations"]
            if cost in known:
                continue
            known.add(cost)
            name = model if training.trained else training_name
            taken = name in found or (training.trained and name in trainings)
            found[f"{training_name}.{model}" if taken else name] = teacher
    return found


def _variables(training: Training, model: str, given: dict[str, Any], seed: int) -> Any:
    """Return the variables of a frozen model, as the training has them."""
    zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in training.shapes(model)[1].items()}
    network, layers = training.networks[model], training.layers.get(model)
    make = jax.jit(lambda key, given: initial_variables(model, network, key, zeros, given, layers))
    return make(jax.random.key(seed), given)


def _exported(training: Training, model: str, variables: Any) -> Model:
    """Export what the terms of a training read of a model; or, if it is the evaluated one, its predictions."""
    if training.evaluate == model:
        run, _, rows, _ = program.function_of(training)
    else:
        shapes, network = training.shapes(model)[1], training.networks[model]
        rows = {k: jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for k, s in shapes.items()}
        paths = [f"{path}." for paths in training.reads.values() for path in paths]
        reads = [n for n in training.outputs(model) if any(p.startswith(f"{model}.{n}.") for p in paths)]

        def run(values, batch):
            batch = batch | {"valid": jnp.ones(next(iter(batch.values())).shape[0], bool)}
            outputs = predict(network, jax.tree.unflatten(jax.tree.structure(variables), list(values.values())), batch)
            return program.flat({n: outputs[n] for n in reads or outputs})

    named = program.flat(variables)
    made = program.export_function(run, named, rows)
    size = {n: int(np.prod(x.shape)) for n, x in named.items()}
    about = {"parameters": sum(n for k, n in size.items() if k.startswith("params."))}
    call = jax.jit(export.deserialize(bytearray(made.program)).call)
    student = Student(
        inputs=made.inputs,
        outputs=made.outputs,
        classes=(),
        task={},
        preprocess=(),
        batch=made.batch,
        call=functools.partial(call, named),
        signature=about | {"operations": made.operations},
    )
    return Model(model, student, len(made.program) + sum(x.nbytes for x in named.values()))
