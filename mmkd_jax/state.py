"""The one state: all that learns or remembers, as an explicit pytree; and how it starts."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mmkd_jax.errors import UserError, choices
from mmkd_jax.hyperparameters import with_numbers
from mmkd_jax.objective import Objective, shares
from mmkd_jax.schemes.scheme import Scheme
from mmkd_jax.views import Batch, Context, Model, forward


class Distillation(NamedTuple):
    """Who learns from what.

    Attributes:
        models: name -> Model, in the order in which they run.
        objective: what is to be made small.
        optimizer: an optax transformation of the whole `params` tree (`optax.partition` labels its top-level names).
        trained: names of the models that are trained; the others are frozen and run with train=False.
        ema: name -> (source, decay): a model whose variables are the moving average of a trained one's.
        scheme: what becomes of the gradients of single terms; None is one gradient of their sum.
        augment: `(batch, ctx) -> batch`, applied once to each training batch before all models.
        inherit: name -> `(own, given) -> variables`: what of the variables that are given a model begins with, where it
            is not all.
    """

    models: Mapping[str, Model]
    objective: Objective
    optimizer: optax.GradientTransformation
    trained: tuple[str, ...] = ("student",)
    ema: Mapping[str, tuple[str, float]] = {}
    scheme: Scheme | None = None
    augment: Callable[[Batch, Context], Batch] | None = None
    inherit: Mapping[str, Callable[[Any, Any], Any]] = {}


@flax.struct.dataclass
class DistillState:
    """All that learns or remembers.

    Attributes:
        step: updates made so far, int32.
        params: name of a trained model -> its parameters; "objective" -> those of connectors and methods.
        model_state: name of a trained model -> BatchNorm statistics and the like.
        opt_state: the optimizer's.
        memory: the objective's: numbers, banks, running statistics.
        ema: name -> averaged variables.
        key: the root key; it never advances.
        scheme: the gradient scheme's memory: numbers, learned weights; empty without one.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    memory: Any
    ema: Any
    key: Any
    scheme: Any


def start(
    distillation: Distillation,
    spec: Mapping[str, jax.ShapeDtypeStruct],
    key: jax.Array,
    variables: Mapping[str, Any] | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> tuple[DistillState, dict[str, Any]]:
    """The state before the first step, and the frozen models' variables. Pure: jit, vmap and eval_shape take it.

    Every path, mask and connector is checked here, by running the objective once from shapes.

    Args:
        distillation: who learns from what.
        spec: shapes and dtypes of a batch.
        key: root key of the run.
        variables: name -> variables for models that do not start at random (frozen teachers, second stages); a dotted
            name, such as "student.params.encoders_audio", gives a part of a model's.
        numbers: dotted name -> value, for numbers of the objective that differ from the file's; those of the scheme are
            named "scheme.c" and the like.

    Returns:
        The state, and name -> variables of the frozen models.

    Raises:
        UserError: a wrong path or name; the message lists those that exist.
    """
    models, objective, optimizer, trained, ema, scheme, augment, inherit = distillation
    for name in models:
        if name in ("batch", "objective") or "." in name:
            raise UserError(f"a model cannot be named {name!r}: batch and objective are taken, dots separate paths")
    given = dict(variables or {})
    if unknown := (set(trained) | set(ema) | {n.partition(".")[0] for n in given}) - set(models):
        raise UserError(f"no model named {choices(unknown)}; there are: {choices(models)}")
    if both := set(trained) & set(ema):
        raise UserError(f"model {choices(both)} is both trained and a moving average: it can be one of them")
    if wrong := {source for source, _ in ema.values()} - set(trained):
        raise UserError(f"ema follows {choices(wrong)}, which is not trained; trained are: {choices(trained)}")

    ctx = Context(jnp.int32(0), key)
    batch = {k: jnp.zeros(s.shape, s.dtype) for k, s in augmented_spec(augment, spec).items()}
    own = {n for n in models if n not in given or n in inherit} - set(ema)
    made = {n: m.init(ctx.at(n).key, batch) if n in own else given[n] for n, m in models.items() if n not in ema}
    made |= {n: how(made[n], given[n]) for n, how in inherit.items() if n in given}
    for name in given:
        if "." in name:
            made = with_part(made, name, given[name])
    made |= {n: made[source] for n, (source, _) in ema.items()}
    if without := [n for n in trained if not jax.tree.leaves(made[n].get("params", {}))]:
        raise UserError(f"model {choices(without)} is to be trained but has no parameters")
    views, _ = forward(models, made, batch, ctx, trained)
    objective_params, memory = objective.init(views)
    numbers = dict(numbers or {})
    of_scheme = {k: numbers.pop(k) for k in list(numbers) if scheme and k.startswith("scheme.")}
    memory = with_numbers(memory, numbers)
    terms, _ = objective.apply(objective_params, memory, views)  # dead code under jit; here for what it refuses
    params = {n: made[n]["params"] for n in trained} | {"objective": objective_params}
    names = sorted(shares(terms)[0])
    if scheme and any(f"{n}.".startswith("scheme.") for n in names):
        raise UserError("a term cannot be named 'scheme' beside a gradient scheme, whose numbers have that name")
    remembered = {"scheme": scheme.init(names, params)} if scheme else {}
    remembered = with_numbers(remembered, of_scheme).get("scheme", {})
    if scheme:  # for what it refuses, as above
        zeros = jax.tree.map(lambda p: jnp.zeros((len(names), *p.shape), p.dtype), params)
        scheme.apply(zeros, {n: jnp.float32(0) for n in names}, remembered, ctx.key)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(params)
    state = DistillState(
        step=jnp.int32(0),
        params=params,
        model_state={n: {c: v for c, v in made[n].items() if c != "params"} for n in trained},
        opt_state=opt_state,
        memory=memory,
        ema={n: made[n] for n in ema},
        key=key,
        scheme=remembered,
    )
    return state, {n: v for n, v in made.items() if n not in trained and n not in ema}


def augmented_spec(
    augment: Callable[[Batch, Context], Batch] | None, spec: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the batch that models and objective see in training: augmentation may change names and shapes."""
    if augment is None:
        return dict(spec)
    return dict(jax.eval_shape(lambda batch: augment(batch, Context(jnp.int32(0), jax.random.key(0))), dict(spec)))


def variables(state: DistillState, frozen: Mapping[str, Any], params: Any = None) -> dict[str, Any]:
    """Every model's variables: trained, averaged and frozen."""
    params = state.params if params is None else params
    trained = {n: {"params": params[n], **s} for n, s in state.model_state.items()}
    return {**frozen, **state.ema, **trained}


def part_of(tree: Any, path: str) -> Any:
    """What stands at a dotted path; all, for an empty one.

    Example:
        >>> part_of({"params": {"head": 1}}, "params.head")
        1
    """
    for name in path.split(".") if path else ():
        if not isinstance(tree, Mapping) or name not in tree:
            raise UserError(f"no {name!r} in {path!r}; there are: {choices(tree if isinstance(tree, Mapping) else ())}")
        tree = tree[name]
    return tree


def with_part(tree: Any, path: str, value: Any) -> Any:
    """The tree with another value, of the same shapes, at a dotted path."""
    old, names = part_of(tree, path), path.split(".")
    if jax.tree.map(jnp.shape, old) != (shapes := jax.tree.map(jnp.shape, value)):
        raise UserError(f"what {path!r} is given has shapes {shapes}; its own are {jax.tree.map(jnp.shape, old)}")
    for i in reversed(range(len(names))):
        value = {**part_of(tree, ".".join(names[:i])), names[i]: value}
    return value
