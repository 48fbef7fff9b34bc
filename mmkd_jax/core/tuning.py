"""Partly trained models: which parameters are trained, which are frozen, and how both make the whole model."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import FROZEN, Batch, Model, ModelOutputs, StepContext, Tuning, Variables
from mmkd_jax.errors import UserError, shown


class Adapter(NamedTuple):
    """A low-rank change of a frozen kernel, in its place among the parameters.

    Attributes:
        a: first factor.
        b: second factor, initially zero.
    """

    a: Float[Array, "m r"]
    b: Float[Array, "r n"]


Choose = Callable[[Mapping[str, Any]], Mapping[str, int | None]]


def tuned(what: str, model: Model, choose: Choose, scale: float = 1.0) -> Model:
    """Return a model of which only some parameters are trained, or low-rank changes of them.

    Formula: W + scale · A B for an adapted kernel W, as a matrix; A is normal with variance 1 / rows, B is zero

    A training of it results in the variables of the whole model, and takes those from elsewhere. Frozen parameters are
    neither in the state nor in the checkpoints. A Linen module of which all parameters are frozen runs with
    train=False: without dropout, and without updates of its statistics.

    Args:
        what: name of the calling function, for messages.
        model: the whole model.
        choose: `(dotted path -> shape) -> path -> None` for a parameter that is trained, or the rank of its change; all
            others are frozen.
        scale: factor of the low-rank changes.

    Raises:
        UserError: `model` is not a Model, or is partly trained already.
    """
    if not isinstance(model, Model):
        raise UserError(f"{what}: {type(model).__name__}; expected a Model, such as the `.model` of a pretrained one")
    if model.tuning is not None:
        raise UserError(f"{what}: the model is partly trained already: pass the whole model, and name all at once")

    def split(variables, key):
        leaves, tree = jax.tree.flatten_with_path(variables["params"])
        named = {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in leaves}
        chosen, own, frozen = choose(named), [], []
        for name, x in named.items():
            rank = chosen.get(name, 0)
            own.append(x if rank is None else _adapter(x, rank, StepContext(0, key).at(name).key) if rank else None)
            frozen.append(None if rank is None else x)
        others = {c: v for c, v in variables.items() if c != "params"}
        return {"params": tree.unflatten(own), FROZEN: tree.unflatten(frozen), **others}

    def join(variables):
        def one(own, frozen):
            if isinstance(own, Adapter):
                change = jnp.matmul(own.a, own.b, precision=jax.lax.Precision.HIGHEST)
                return frozen + (scale * change).reshape(frozen.shape).astype(frozen.dtype)
            return frozen if own is None else own

        def is_leaf(x):
            return x is None or isinstance(x, Adapter)

        params = jax.tree.map(one, variables["params"], variables[FROZEN], is_leaf=is_leaf)
        return {"params": params, **{c: v for c, v in variables.items() if c not in ("params", FROZEN)}}

    def init(key, batch):
        return split(model.init(key, batch), key)

    tuning = Tuning(model, split, join)
    return model._replace(init=init, apply=TunedApply(what, tuning), origin=None, tuning=tuning)


@dataclasses.dataclass(frozen=True, eq=False)
class TunedApply:
    """Forward pass of a partly trained model, or of the whole one with its variables, as a `ModelApply`.

    Attributes:
        what: name of the function that made it, for messages.
        tuning: the whole model, and how its variables are put together.
    """

    what: str
    tuning: Tuning

    def __call__(
        self, variables: Any, batch: Batch, ctx: StepContext, patch: ModelOutputs
    ) -> tuple[ModelOutputs, Variables]:
        apply = self.tuning.whole.apply
        if FROZEN not in variables:
            return apply(variables, batch, ctx, patch)
        whole, frozen = self.tuning.join(variables), jax.tree.leaves(variables[FROZEN])
        if not ctx.train:
            return apply(whole, batch, ctx, patch)
        with nn.intercept_methods(_Calm(frozen)):
            outputs, state = apply(whole, batch, ctx, patch)
        _check_still(self.what, state, whole, {id(x) for x in frozen})
        return outputs, state


def adapted(params: Any) -> list[str]:
    """Return the names of a partly trained model's parameters that are trained, with the rank of low-rank changes.

    Example:
        >>> adapted({"kernel": Adapter(jnp.zeros((4, 2)), jnp.zeros((2, 3))), "bias": jnp.zeros(3), "frozen": None})
        ['bias', 'kernel (rank 2)']
    """
    leaves = jax.tree.leaves_with_path(params, is_leaf=lambda x: isinstance(x, Adapter))
    named = {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in leaves}
    return [f"{n} (rank {x.a.shape[-1]})" if isinstance(x, Adapter) else n for n, x in named.items()]


def whole(model: Model) -> Model:
    """Return the whole model of a partly trained one; other models as they are."""
    if model.tuning is None:
        return model
    of = model.tuning.whole
    apply = of.apply if isinstance(model.apply, TunedApply) else model.apply  # or a function on top of it
    return model._replace(init=of.init, apply=apply, origin=of.origin, tuning=None)


class _Calm:
    """Run Linen modules of which all parameters are frozen with train=False, as a frozen model runs.

    Modules that are applied within another one, such as layers that `jax.checkpoint` runs, have the mode of that one.
    """

    def __init__(self, frozen):
        self.frozen, self.root = {id(x) for x in frozen}, None

    def __call__(self, call, args, kwargs, context):
        scope = context.module.scope
        if scope is None or self.root not in (None, scope.root):
            return call(*args, **kwargs)
        outer, self.root = self.root, scope.root
        try:
            own = jax.tree.leaves(context.module.variables.get("params", {}))
            if own and all(id(x) in self.frozen for x in own):
                args = tuple(_calmed(x) for x in args)
                kwargs = {k: _calmed(x) for k, x in kwargs.items()}
            return call(*args, **kwargs)
        finally:
            self.root = outer


def _check_still(what, state, whole, frozen):
    """Raise if the state of a module of which all parameters are frozen has changed."""
    calm = {n for n, tree in _items(whole["params"]) if all(id(x) in frozen for x in jax.tree.leaves(tree))}
    for collection, scopes in state.items():
        for name, tree in _items(scopes):
            before = jax.tree.leaves(whole[collection][name])
            if name in calm and any(a is not b for a, b in zip(before, jax.tree.leaves(tree), strict=True)):
                raise UserError(
                    f"{what}: all parameters of {shown(str(name))!r} are frozen, but {collection!r} of it, such as "
                    "running statistics, changes in training: pass the step's context on to its module, as an argument"
                )


def _items(tree):
    return tree.items() if isinstance(tree, Mapping) else ()


def _calmed(x):
    return x._replace(train=False) if isinstance(x, StepContext) else x


def sides(shape: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of a kernel as a matrix: its axes are split where both are most alike.

    An attention's kernel with an axis for heads thus has the width of the tokens on one side.

    Example:
        >>> sides((8, 2, 4)), sides((2, 4, 8)), sides((3, 3, 16, 32))
        ((8, 8), (8, 8), (144, 32))
    """
    pairs = [(math.prod(shape[:i]), math.prod(shape[i:])) for i in range(1, len(shape))]
    return min(pairs, key=lambda pair: max(pair) / max(min(pair), 1))


def joined(model: Model, variables: Any) -> Any:
    """Return the variables of the whole model."""
    return variables if model.tuning is None else model.tuning.join(variables)


def matching(what: str, patterns: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns, which match whole names or their first words.

    Args:
        what: start of the message, such as the name of the calling function.
        patterns: patterns of `fnmatch`, such as "heads_*" or "*.query"; `*` also matches dots.
        names: dotted paths.

    Raises:
        UserError: a pattern matches nothing.

    Example:
        >>> matching("f", ("head", "*.query"), ["head.bias", "layer_0.query.kernel", "layer_0.key.kernel"])
        ['head.bias', 'layer_0.query.kernel']
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    found = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise UserError(f"{what}: {shown(repr(pattern))}; expected patterns of dotted paths, such as 'heads_*'")
        hits = [n for n in names if any(fnmatchcase(x, pattern) for x in itertools.accumulate(n.split("."), _dotted))]
        if not hits:
            first = list(dict.fromkeys(n.rpartition(".")[0] or n for n in names))
            some = ", ".join(first[:5]) + (f", … ({len(first)})" if len(first) > 5 else "")
            raise UserError(f"{what}: {shown(pattern)!r} matches nothing; there are: {shown(some, 300)}")
        found |= set(hits)
    return [n for n in names if n in found]


def _dotted(a, b):
    return f"{a}.{b}"


def _adapter(kernel, rank: int, key) -> Adapter:
    rows, columns = sides(kernel.shape)
    a = jax.random.normal(key, (rows, rank), kernel.dtype) * rows**-0.5
    return Adapter(a, jnp.zeros((rank, columns), kernel.dtype))
