"""Models as pure functions."""

import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx

from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.topk import TopK

Batch = Mapping[str, Any]
ModelOutputs = Mapping[str, Any]
Variables = Mapping[str, Any]


@runtime_checkable
class ModelInit(Protocol):
    """Initialization of a model's variables; "params" are optimized if the model is trained."""

    def __call__(self, key: Any, batch: Batch, /) -> Variables: ...


@runtime_checkable
class ModelApply(Protocol):
    """Forward pass of a model: flat outputs with dotted names, and the new model state, such as running statistics."""

    def __call__(
        self, variables: Any, batch: Batch, ctx: "StepContext", patch: ModelOutputs, /
    ) -> tuple[ModelOutputs, Variables]: ...


@runtime_checkable
class Encoder(Protocol):
    """Encoder of one modality: passes its intermediates through `tap` and returns features [b, d]; a Linen module."""

    def __call__(self, batch: Batch, modality: str, ctx: "StepContext", tap: "Taps", /) -> jax.Array: ...


class StepContext(NamedTuple):
    """Explicit context of a step: step counter, random key, training mode, device axis and row mask.

    `key` never advances: fold a name into it with `at` to get randomness, and `example_id` for randomness per row.
    `axis_name` names the device axis in the per-device forms (shard_map, pmap) and is None elsewhere. `where` masks
    the rows that contribute to batch statistics (BatchNorm); None means all rows.
    """

    step: Any
    key: Any
    train: bool = True
    axis_name: str | None = None
    where: Any = None

    def at(self, name: str) -> "StepContext":
        """Return the same context with a separate key for `name`."""
        return self._replace(key=jax.random.fold_in(self.key, zlib.crc32(name.encode())))


class Taps:
    """Collect a model's intermediates under dotted names, and replace those named in `patch`.

    Pass every intermediate that may be distilled through `x = tap("features.image", x)`.

    Example:
        >>> tap = Taps({"embedding": 5})
        >>> tap("embedding", 3), tap("logits", 7), tap.outputs
        (5, 7, {'embedding': 5, 'logits': 7})
    """

    def __init__(self, patch: Mapping[str, Any]):
        self.patch, self.outputs = patch, {}

    def __call__(self, name: str, x):
        if name in self.outputs:
            raise ValueError(f"two intermediates of one model are named {name!r}: give each a unique name")
        if name in self.patch:
            patched = self.patch[name]
            if jnp.shape(patched) != jnp.shape(x):
                raise UserError(f"patch {name!r} has shape {jnp.shape(patched)}, the model's output has {jnp.shape(x)}")
            x = patched
        self.outputs[name] = x
        return x


FROZEN = "frozen_params"
"""Collection of a partly trained model with the parameters that are not trained."""


class Tuning(NamedTuple):
    """How a partly trained model and the whole one are converted into each other, see `core.tuning`.

    Attributes:
        whole: the whole model; its variables are the result of a training.
        split: `(variables of the whole, key) -> variables`; their "params" are trained, those of `FROZEN` are not.
        join: `(variables) -> variables of the whole`.
    """

    whole: "Model"
    split: Callable[[Any, Any], Variables]
    join: Callable[[Any], Variables]


class Model(NamedTuple):
    """A model as a pair of pure functions: a Linen module, an NNX module or plain functions behind one signature.

    Attributes:
        init: `(key, batch) -> variables`, a dict; its "params" are optimized if the model is trained.
        apply: `(variables, batch, ctx, patch) -> (outputs, new_state)`; outputs is a flat dict with dotted names.
        fixed: reason why this model cannot be run again on another batch; empty if it can.
        needs: collections of variables that `init` does not create; they are taken from another model.
        labels: names of the classes of its `logits`, in their order; empty if unknown.
        problem: what its `logits` were trained for: "single_label_classification", "multi_label_classification" or
            "regression"; empty if unknown.
        origin: the pretrained model that it is, which can save its variables; None for others.
        class_outputs: names of the outputs whose last axis has these classes.
        tuning: of a model that is trained in part, such as by low-rank adapters; None for others.
    """

    init: ModelInit
    apply: ModelApply
    fixed: str = ""
    needs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    problem: str = ""
    origin: Any = None
    class_outputs: tuple[str, ...] = ("logits",)
    tuning: Tuning | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class LinenApply:
    """Forward pass of a Linen module, as a `ModelApply`.

    Attributes:
        module: the module, `module(batch, ctx, patch) -> outputs`.
    """

    module: nn.Module

    def __call__(
        self, variables: Any, batch: Batch, ctx: StepContext, patch: ModelOutputs
    ) -> tuple[ModelOutputs, Variables]:
        mutable = [c for c in variables if c != "params"] if ctx.train else []
        out: Any = self.module.apply(variables, batch, ctx, patch, mutable=mutable or False)
        outputs, state = out if mutable else (out, {})
        return _patched(outputs, patch), state


def linen(module: nn.Module) -> Model:
    """Wrap a Linen module `module(batch, ctx, patch) -> outputs` as a Model, with its `class_outputs` and `problem`."""

    def init(key, batch):
        return module.init(key, batch, StepContext(0, key, train=False), {})

    known = {k: getattr(module, k) for k in ("class_outputs", "problem") if getattr(type(module), k, None)}
    return Model(init, LinenApply(module), **known)


def nnx(make: Callable[[flax_nnx.Rngs], Any]) -> Model:
    """Wrap an NNX module `make(rngs)(batch, ctx, patch) -> outputs` as a Model; its random streams use ctx.key."""

    def split(module):
        return flax_nnx.split(module, flax_nnx.Param, flax_nnx.RngState, ...)

    def init(key, batch):
        del batch
        _, params, _, rest = split(make(flax_nnx.Rngs(key)))
        return {"params": flax_nnx.to_pure_dict(params), "state": flax_nnx.to_pure_dict(rest)}

    def apply(variables, batch, ctx, patch):
        module = make(flax_nnx.Rngs(ctx.key))  # under jit the fresh values are dead code: only the structure is used
        graph, params, rngs, rest = split(module)
        flax_nnx.replace_by_pure_dict(params, variables["params"])
        flax_nnx.replace_by_pure_dict(rest, variables["state"])
        module = flax_nnx.merge(graph, params, rngs, rest)
        module.train() if ctx.train else module.eval()
        outputs = module(batch, ctx, patch)
        _, _, _, rest = split(module)
        state = {"state": flax_nnx.to_pure_dict(rest)} if ctx.train else {}
        return _patched(outputs, patch), state

    return Model(init, apply)


def plain(function: Callable, init: Callable = lambda key, batch: {}) -> Model:
    """Wrap a function `(params, batch) -> outputs` as a Model; `ctx` and `patch` are passed if it takes them.

    Args:
        function: function that returns a flat dict of outputs.
        init: `(key, batch) -> params`; by default the model has no parameters.
    """
    parameters = inspect.signature(function).parameters

    def apply(variables, batch, ctx, patch):
        if patch and "patch" not in parameters:
            raise UserError(f"a plain function without an argument named patch cannot be patched with {choices(patch)}")
        ambient = {k: v for k, v in {"ctx": ctx, "patch": patch}.items() if k in parameters}
        return _patched(function(variables["params"], batch, **ambient), patch), {}

    return Model(lambda key, batch: {"params": init(key, batch)}, apply)


def cached(name: str) -> Model:
    """Model whose outputs are read from the batch, as `NAME.OUTPUT`; it cannot run on another input.

    Half-precision outputs are converted to float32. `NAME.logits.values`, `.indices`, `.lse` and `.tail` form a `TopK`
    of logits.
    """
    prefix = name + "."

    def apply(variables, batch, ctx, patch):
        if patch:
            raise UserError(f"model {name!r} is cached: it cannot take patch {choices(patch)}; use the model itself")
        outputs = {k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}
        if not outputs:
            raise UserError(f"model {name!r} is cached, but the batch has no {prefix}*; it has: {choices(batch)}")
        halves = (jnp.float16, jnp.bfloat16)
        outputs = {k: x.astype(jnp.float32) if x.dtype in halves else x for k, x in outputs.items()}
        if "logits.values" in outputs:
            values, indices, lse, tail = (outputs.pop(f"logits.{k}") for k in TopK._fields)
            outputs["logits"] = TopK(values, indices.astype(jnp.int32), lse, tail)
        return outputs, {}

    mend = "use the model itself instead (in a Training: omit cache=)"
    fixed = f"model {name!r} is cached and cannot be run on another input: {mend}"
    return Model(lambda key, batch: {}, apply, fixed)


def predict(model: Model, variables: Any, batch: Batch, patch: ModelOutputs | None = None) -> ModelOutputs:
    """Return a model's outputs in evaluation mode: without dropout, and without updates of its statistics.

    Args:
        model: the model.
        variables: its variables.
        batch: flat dict of arrays with leading axis b.
        patch: outputs to replace by other values.

    Raises:
        UserError: the batch lacks the column `example_id`, which the model reads.

    Example:
        >>> twice = plain(lambda _, batch: {"y": 2 * batch["x"]})
        >>> predict(twice, {"params": {}}, {"x": 3})
        {'y': 6}
    """
    try:
        return model.apply(variables, batch, StepContext(jnp.int32(0), jax.random.key(0), train=False), patch or {})[0]
    except KeyError as error:
        if error.args != ("example_id",):
            raise
        raise UserError("the batch has no example_id: add integers that identify its rows, np.arange(n)") from None


def with_input(model: Model, transform: Callable[[Batch, StepContext], Batch]) -> Model:
    """Return a model that runs on `transform(batch, ctx)` instead of the batch."""
    if not isinstance(model, Model):
        raise UserError(
            f"with_input: {type(model).__name__}; expected a Model, such as the `.model` of a pretrained one"
        )

    def init(key, batch):
        return model.init(key, transform(batch, StepContext(0, key, train=False)))

    def apply(variables, batch, ctx, patch):
        return model.apply(variables, transform(batch, ctx.at("input")), ctx, patch)

    tuning = model.tuning and model.tuning._replace(whole=with_input(model.tuning.whole, transform))
    return model._replace(init=init, apply=apply, origin=None, tuning=tuning)


def check_whole(what: str, models: Mapping[str, Model]) -> None:
    """Raise for partly trained models in a function that combines models.

    Args:
        what: name of the function.
        models: name -> Model.

    Raises:
        UserError: a model is partly trained.
    """
    if tuned := [n for n, m in models.items() if m.tuning is not None]:
        raise UserError(
            f"{what}: {choices(tuned)} is partly trained: combine whole models, and freeze the combined one"
        )


def _patched(outputs: ModelOutputs, patch: Mapping[str, Any]) -> ModelOutputs:
    unknown = set(patch) - set(outputs)
    if unknown:  # a patch that nothing reads would silently change nothing
        raise UserError(f"patch {choices(unknown)}: the model has no such output; it has: {choices(outputs)}")
    return outputs
