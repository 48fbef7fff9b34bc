"""Training state as one explicit pytree, and its initialization."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mmkd_jax.core.aggregator import Aggregator
from mmkd_jax.core.hyperparams import with_hyperparams
from mmkd_jax.core.model import FROZEN, Batch, Model, StepContext
from mmkd_jax.core.objective import Objective, shares
from mmkd_jax.core.outputs import forward
from mmkd_jax.errors import UserError, choices


class Distillation(NamedTuple):
    """A distillation: models, objective and optimizer.

    Attributes:
        models: name -> Model, in the order in which they run.
        objective: the loss to minimize.
        optimizer: an optax transformation of the whole `params` tree (`optax.partition` labels its top-level names).
        trained: names of the models that are trained; the others are frozen and run with train=False.
        ema: name -> (source, decay): a model whose variables are the exponential moving average of a trained model's.
        gradients: aggregator of the gradients of single terms; None differentiates their sum.
        augment: `(batch, ctx) -> batch`, applied once to each training batch before all models.
        inherit: name -> `(initial, source) -> variables`: initial variables of a model that inherits only a part of the
            source variables.
    """

    models: Mapping[str, Model]
    objective: Objective
    optimizer: optax.GradientTransformation
    trained: tuple[str, ...] = ("student",)
    ema: Mapping[str, tuple[str, float]] = {}
    gradients: Aggregator | None = None
    augment: Callable[[Batch, StepContext], Batch] | None = None
    inherit: Mapping[str, Callable[[Any, Any], Any]] = {}


@flax.struct.dataclass
class DistillState:
    """Complete training state.

    Attributes:
        step: number of updates so far, int32.
        params: name of a trained model -> its parameters; "objective" -> those of connectors and methods.
        model_state: name of a trained model -> its other collections, such as BatchNorm statistics; not those that are
            `FROZEN`.
        opt_state: optimizer state.
        objective_state: objective state: hyperparameters, banks, running statistics.
        ema: name -> averaged variables.
        key: root key of the run; it never advances.
        aggregator_state: state of the gradient aggregator: hyperparameters, learned weights; empty without one.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    objective_state: Any
    ema: Any
    key: Any
    aggregator_state: Any


def init_state(
    distillation: Distillation,
    spec: Mapping[str, jax.ShapeDtypeStruct],
    key: jax.Array,
    variables: Mapping[str, Any] | None = None,
    hyperparams: Mapping[str, Any] | None = None,
) -> tuple[DistillState, dict[str, Any]]:
    """Initialize the training state and the frozen models' variables. Pure, for jit, vmap and eval_shape.

    Running the objective once, from shapes, checks every path, mask and connector.

    Args:
        distillation: models, objective and optimizer.
        spec: shapes and dtypes of a batch.
        key: root key of the run.
        variables: name -> variables for models that are not initialized at random (frozen teachers, second stages); a
            dotted name, such as "student.params.encoders_audio", sets a subtree of a model's variables.
        hyperparams: dotted name -> value, for hyperparameters of the objective that differ from the file; names of the
            gradient aggregator's start with "gradients.", such as "gradients.c".

    Returns:
        The state, and name -> variables of the frozen models, and those that a partly trained model does not train.

    Raises:
        UserError: an unknown path or name, with the list of existing ones.
    """
    models, objective, optimizer = distillation.models, distillation.objective, distillation.optimizer
    trained, ema, aggregator = distillation.trained, distillation.ema, distillation.gradients
    augment, inherit = distillation.augment, distillation.inherit
    for name in models:
        if name in ("batch", "objective") or "." in name:
            raise UserError(f"a model cannot be named {name!r}: batch and objective are reserved, dots separate paths")
    given = dict(variables or {})
    if unknown := (set(trained) | set(ema) | {n.partition(".")[0] for n in given}) - set(models):
        raise UserError(f"no model named {choices(unknown)}; there are: {choices(models)}")
    if both := set(trained) & set(ema):
        raise UserError(f"model {choices(both)} is both trained and a moving average: choose one")
    if wrong := {source for source, _ in ema.values()} - set(trained):
        raise UserError(f"ema averages {choices(wrong)}, which is not trained; trained models: {choices(trained)}")

    ctx = StepContext(jnp.int32(0), key)
    batch = {k: jnp.zeros(s.shape, s.dtype) for k, s in augmented_spec(augment, spec).items()}
    initial = {n: initial_variables(n, m, key, batch, given, inherit.get(n)) for n, m in models.items() if n not in ema}
    initial |= {n: initial[source] for n, (source, _) in ema.items()}
    if without := [n for n in trained if not jax.tree.leaves(initial[n].get("params", {}))]:
        raise UserError(f"model {choices(without)} is to be trained but has no parameters")
    outputs, _ = forward(models, initial, batch, ctx, trained)
    objective_params, objective_state = objective.init(outputs)
    hyperparams = dict(hyperparams or {})
    of_aggregator = {k: hyperparams.pop(k) for k in list(hyperparams) if aggregator and k.startswith("gradients.")}
    objective_state = with_hyperparams(objective_state, hyperparams)
    # only for its errors; dead code under jit
    terms, _ = objective.apply(objective_params, objective_state, outputs)
    params = {n: initial[n]["params"] for n in trained} | {"objective": objective_params}
    names = sorted(shares(terms)[0])
    if aggregator and any(f"{n}.".startswith("gradients.") for n in names):
        raise UserError(
            "a term cannot be named 'gradients': the gradient aggregator's hyperparameters use it; rename the term"
        )
    aggregator_state = {"gradients": aggregator.init(names, params)} if aggregator else {}
    aggregator_state = with_hyperparams(aggregator_state, of_aggregator).get("gradients", {})
    if aggregator:  # only for its errors, as above
        zeros = jax.tree.map(lambda p: jnp.zeros((len(names), *p.shape), p.dtype), params)
        aggregator.apply(zeros, {n: jnp.float32(0) for n in names}, aggregator_state, ctx.key)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(params)
    tuned = [n for n in (*trained, *ema) if models[n].tuning is not None]
    own = {n: {c: v for c, v in initial[n].items() if n not in tuned or c != FROZEN} for n in (*trained, *ema)}
    state = DistillState(
        step=jnp.int32(0),
        params=params,
        model_state={n: {c: v for c, v in own[n].items() if c != "params"} for n in trained},
        opt_state=opt_state,
        objective_state=objective_state,
        ema={n: own[n] for n in ema},
        key=key,
        aggregator_state=aggregator_state,
    )
    frozen = {n: v for n, v in initial.items() if n not in trained and n not in ema}
    return state, frozen | {n: {FROZEN: initial[n][FROZEN]} for n in tuned}


def initial_variables(
    name: str,
    model: Model,
    key: jax.Array,
    batch: Batch,
    given: Mapping[str, Any],
    inherit: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Return a model's initial variables: those of its `init`, replaced by what is given for it.

    For a partly trained model, what is given are variables of the whole one.

    Args:
        name: name of the model.
        model: the model.
        key: root key of the run.
        batch: a batch, of which only shapes matter.
        given: name of a model, or dotted path within it -> variables.
        inherit: `(initial, source) -> variables` for a model that inherits only a part of what is given.
    """
    own, tuning = StepContext(jnp.int32(0), key).at(name).key, model.tuning
    if name in given and inherit is None:
        values = given[name]
    else:
        values = (model if tuning is None else tuning.whole).init(own, batch)
        values = inherit(values, given[name]) if inherit is not None and name in given else values
    for path in given:
        if path.startswith(name + "."):
            values = with_subtree({name: values}, path, given[path])[name]
    return values if tuning is None else tuning.split(values, own)


def augmented_spec(
    augment: Callable[[Batch, StepContext], Batch] | None, spec: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of the augmented batch; augmentation may change names and shapes."""
    if augment is None:
        return dict(spec)
    return dict(jax.eval_shape(lambda batch: augment(batch, StepContext(jnp.int32(0), jax.random.key(0))), dict(spec)))


def variables(state: DistillState, frozen: Mapping[str, Any], params: Any = None) -> dict[str, Any]:
    """Return every model's variables: trained, averaged and frozen."""
    params = state.params if params is None else params
    trained = {n: {"params": params[n], **s} for n, s in state.model_state.items()}
    return completed({**state.ema, **trained}, frozen)


def completed(own: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of all models: those of the state, with frozen ones, some of which are of the same models.

    Example:
        >>> completed({"student": {"params": 1}}, {"student": {"frozen_params": 2}, "teacher": {"params": 3}})
        {'student': {'frozen_params': 2, 'params': 1}, 'teacher': {'params': 3}}
    """
    return {n: {**frozen[n], **own.get(n, {})} if n in frozen else own[n] for n in {**frozen, **own}}


def subtree(tree: Any, path: str) -> Any:
    """Return the subtree at a dotted path; the whole tree for an empty path.

    Example:
        >>> subtree({"params": {"head": 1}}, "params.head")
        1
    """
    for name in path.split(".") if path else ():
        if not isinstance(tree, Mapping) or name not in tree:
            raise UserError(f"no {name!r} in {path!r}; there are: {choices(tree if isinstance(tree, Mapping) else ())}")
        tree = tree[name]
    return tree


def with_subtree(tree: Any, path: str, value: Any) -> Any:
    """Return the tree with the subtree at a dotted path replaced; shapes must match."""
    old, names = subtree(tree, path), path.split(".")
    if jax.tree.map(jnp.shape, old) != (shapes := jax.tree.map(jnp.shape, value)):
        raise UserError(f"variables given for {path!r} have shapes {shapes}; expected {jax.tree.map(jnp.shape, old)}")
    for i in reversed(range(len(names))):
        value = {**subtree(tree, ".".join(names[:i])), names[i]: value}
    return value
