"""Models as pure functions, and the views of a batch that an objective may look at."""

import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx

from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.topk import TopK

Batch = Mapping[str, Any]
Outputs = Mapping[str, Any]


class Context(NamedTuple):
    """All that is ambient, made explicit.

    `key` never advances: whoever needs randomness folds a name into it (`at`), and rows fold in their `example_id`.
    `axis` names the device axis in the per-device forms (shard_map, pmap) and is None elsewhere. `where` tells the rows
    that count for statistics of the batch (BatchNorm); None is all of them.
    """

    step: Any
    key: Any
    train: bool = True
    axis: str | None = None
    where: Any = None

    def at(self, name: str) -> "Context":
        """The same context with a key of its own for `name`."""
        return self._replace(key=jax.random.fold_in(self.key, zlib.crc32(name.encode())))


class Taps:
    """Collects a model's intermediates under dotted names, and puts `patch` in their place where it is given.

    Every intermediate that anyone may distil goes through `x = tap("features.image", x)`.

    Example:
        >>> tap = Taps({"embedding": 5})
        >>> tap("embedding", 3), tap("logits", 7), tap.outputs
        (5, 7, {'embedding': 5, 'logits': 7})
    """

    def __init__(self, patch: Mapping[str, Any]):
        self.patch, self.outputs = patch, {}

    def __call__(self, name: str, x):
        if name in self.outputs:
            raise ValueError(f"two intermediates of one model are named {name!r}: give each a name of its own")
        if name in self.patch:
            given = self.patch[name]
            if jnp.shape(given) != jnp.shape(x):
                raise UserError(f"patch {name!r} has shape {jnp.shape(given)}, the model's own has {jnp.shape(x)}")
            x = given
        self.outputs[name] = x
        return x


class Model(NamedTuple):
    """A Linen module, an NNX module or plain functions, behind one signature.

    Attributes:
        init: `(key, batch) -> variables`, a dict whose "params" are trained if the model is.
        apply: `(variables, batch, ctx, patch) -> (outputs, new_state)`; outputs is a flat dict with dotted names.
        fixed: why this model cannot be run again on another batch; empty if it can.
        needs: collections of its variables that are not made by `init`: another model's are put in their place.
    """

    init: Callable
    apply: Callable
    fixed: str = ""
    needs: tuple[str, ...] = ()


def linen(module: nn.Module) -> Model:
    """A Linen module `module(batch, ctx, patch) -> outputs` as a Model."""

    def init(key, batch):
        return module.init(key, batch, Context(0, key, train=False), {})

    def apply(variables, batch, ctx, patch):
        mutable = [c for c in variables if c != "params"] if ctx.train else []
        out: Any = module.apply(variables, batch, ctx, patch, mutable=mutable or False)
        outputs, state = out if mutable else (out, {})
        return _patched(outputs, patch), state

    return Model(init, apply)


def nnx(make: Callable[[flax_nnx.Rngs], Any]) -> Model:
    """An NNX module `make(rngs)(batch, ctx, patch) -> outputs` as a Model; its random streams are reseeded from ctx."""

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
    """A function `(params, batch) -> outputs` as a Model; `ctx` and `patch` reach it if it names them.

    Args:
        function: returns a flat dict of outputs.
        init: `(key, batch) -> params`; the default is a model without parameters.
    """
    asks = inspect.signature(function).parameters

    def apply(variables, batch, ctx, patch):
        if patch and "patch" not in asks:
            raise UserError(f"a plain function without an argument named patch cannot take patch {choices(patch)}")
        ambient = {k: v for k, v in {"ctx": ctx, "patch": patch}.items() if k in asks}
        return _patched(function(variables["params"], batch, **ambient), patch), {}

    return Model(lambda key, batch: {"params": init(key, batch)}, apply)


def cached(name: str) -> Model:
    """A model whose outputs travel in the batch as `NAME.output`; it cannot run on anything else.

    Halves are read as float32; `NAME.logits.values`, `.indices`, `.lse`, `.tail` are a record of logits, `TopK`.
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

    mend = "put the model itself in its place (in a Part: leave it out of cache=)"
    fixed = f"model {name!r} is cached and cannot be run on another input: {mend}"
    return Model(lambda key, batch: {}, apply, fixed)


def with_input(model: Model, transform: Callable[[Batch, Context], Batch]) -> Model:
    """A model that sees its own version of the batch, as `transform(batch, ctx)` gives it."""

    def init(key, batch):
        return model.init(key, transform(batch, Context(0, key, train=False)))

    def apply(variables, batch, ctx, patch):
        return model.apply(variables, transform(batch, ctx.at("input")), ctx, patch)

    return Model(init, apply, model.fixed, model.needs)


def _patched(outputs: Outputs, patch: Mapping[str, Any]) -> Outputs:
    unknown = set(patch) - set(outputs)
    if unknown:  # a patch that nothing reads would silently change nothing
        raise UserError(f"patch {choices(unknown)}: the model has no such output; it has: {choices(outputs)}")
    return outputs


def output_of(outputs: Outputs, name: str, model: str) -> Any:
    """One output of a model that was run again.

    Raises:
        UserError: it has no such output.
    """
    if name not in outputs:
        raise UserError(f"model {model!r} has no output {name!r}; it has: {choices(outputs)}")
    return outputs[name]


class _Runs(dict):
    """Further passes by name of the model: a name that is not there is refused in words, wherever it is asked for."""

    def __missing__(self, name):
        if not self:
            raise UserError(f"model {name!r} is to be run again, but these views run no model: make them with forward")
        raise UserError(f"no model {name!r} that could be run again; there are: {choices(self)}")


@dataclasses.dataclass(frozen=True)
class Views:
    """All that an objective may look at.

    Attributes:
        batch: flat dict: "label", "present.audio", …
        outputs: model name -> its outputs on the batch.
        run: model name -> `(batch, patch={}, train=…) -> outputs`: further forward passes, plain calls. They reuse the
            first pass's key, so that dropout masks agree, and never move BatchNorm statistics.
        ctx: step, key, train, axis.
        scope: dotted name of the term that looks.
        record: called with (scope, path) at each look; `mmkd explain` listens here.
    """

    batch: Batch
    outputs: Mapping[str, Outputs]
    run: Mapping[str, Callable]
    ctx: Context
    scope: str = ""
    record: Callable[[str, str], None] = lambda scope, path: None

    def __post_init__(self):
        object.__setattr__(self, "run", _Runs(self.run))

    def __getitem__(self, path: str):
        view, _, name = path.partition(".")
        if view != "batch" and view not in self.outputs:
            raise UserError(f"path {path!r}: no view {view!r}; there are: {choices(['batch', *self.outputs])}")
        values = self.batch if view == "batch" else self.outputs[view]
        if name not in values:
            raise UserError(f"path {path!r}: {view!r} has no {name!r}; it has: {choices(values)}")
        self.record(self.scope, path)
        return values[name]

    def at(self, name: str) -> "Views":
        """The views of the term `name`: its own key, its own scope."""
        scope = f"{self.scope}.{name}" if self.scope else name
        return dataclasses.replace(self, ctx=self.ctx.at(name), scope=scope)

    def add(self, **outputs: Outputs) -> "Views":
        """The same views and further ones, such as a model's outputs on an attacked batch."""
        return dataclasses.replace(self, outputs={**self.outputs, **outputs})


def forward(
    models: Mapping[str, Model], variables: Mapping[str, Any], batch: Batch, ctx: Context, trained=("student",)
) -> tuple[Views, dict[str, Any]]:
    """Each model once on the batch; models outside `trained` run with train=False.

    Args:
        models: name -> Model.
        variables: name -> variables.
        batch: flat dict of arrays with leading axis b.
        ctx: the step's context.
        trained: names whose BatchNorm and dropout are in training mode if `ctx.train`.

    Returns:
        The views, and name -> new BatchNorm statistics of each trained model. What nobody reads, XLA drops.
    """
    outputs, states, run = {}, {}, {}
    for name, model in models.items():
        here = ctx.at(name)._replace(train=ctx.train and name in trained, where=batch.get("valid"))
        outputs[name], states[name] = model.apply(variables[name], batch, here, {})
        run[name] = _rerun(model, variables[name], here)
    return Views(batch, outputs, run, ctx), {n: s for n, s in states.items() if n in trained}


def _rerun(model, variables, here):
    def run(batch, patch=None, train=here.train):
        if model.fixed:
            raise UserError(model.fixed)
        return model.apply(variables, batch, here._replace(train=train, where=batch.get("valid")), patch or {})[0]

    return run
