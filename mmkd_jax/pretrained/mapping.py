"""Conversion between PyTorch tensors and Flax variables, driven by an explicit table per model family.

A table has a row per module: `"layer_{i}/query": ("encoder.{i}.query", DENSE)`. The rule lists the module's tensors,
their published names, and their layout.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.errors import UserError, shown


class Turn(NamedTuple):
    """Layout conversion of a tensor in both directions: `ours(theirs)` and `theirs(ours)`.

    Attributes:
        ours: published tensor -> our array.
        theirs: our array -> published tensor.
        stacked: number of our arrays that `theirs` concatenates along the first axis.
        single: `theirs` without concatenation; None if `stacked` is 1.
    """

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]
    stacked: int = 1
    single: Callable[[np.ndarray], np.ndarray] | None = None

    def published(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the published tensor, without memory for it.

        Example:
            >>> TRANSPOSED.published((10**6, 10**7))
            (10000000, 1000000)
        """
        first, *rest = (self.single or self.theirs)(np.broadcast_to(np.zeros((), np.int8), shape)).shape or (None,)
        return () if first is None else (self.stacked * first, *rest)


SAME = Turn(lambda x: x, lambda x: x)
ROW = Turn(lambda x: x[0], lambda x: x[None])
TRANSPOSED = Turn(np.transpose, np.transpose)

Rule = dict[str, tuple[str, Turn]]
Table = dict[str, tuple[str, Rule]]

DENSE: Rule = {"kernel": ("weight", TRANSPOSED), "bias": ("bias", SAME)}
NORM: Rule = {"scale": ("weight", SAME), "bias": ("bias", SAME)}
CONV: Rule = {
    "kernel": ("weight", Turn(lambda x: np.moveaxis(x, (0, 1), (-1, -2)), lambda x: np.moveaxis(x, (-1, -2), (0, 1)))),
    "bias": ("bias", SAME),
}
DEPTHWISE: Rule = {
    "kernel": ("weight", Turn(lambda x: x[:, 0].transpose(1, 2, 0), lambda x: x.transpose(2, 0, 1)[:, None])),
    "bias": ("bias", SAME),
}
VALUE: Rule = {"": ("", SAME)}
BATCH_NORM: Rule = NORM | {"mean": ("running_mean", SAME), "var": ("running_var", SAME)}
EMBED: Rule = {"embedding": ("weight", SAME)}


def part(i: int, of: int) -> Rule:
    """Return the rule of dense layer i of several that are published stacked, such as query, key and value."""

    def turn(laid: Turn) -> Turn:
        def stacked(x):  # zeros for the other layers: `from_flax` sums them
            return np.concatenate([laid.theirs(x) if j == i else np.zeros_like(laid.theirs(x)) for j in range(of)])

        return Turn(lambda x: laid.ours(np.split(x, of)[i]), stacked, of, laid.theirs)

    return {leaf: (name, turn(laid)) for leaf, (name, laid) in DENSE.items()}


def inside(scope: str, table: Table) -> Table:
    """Nest a module's table under the scope of another module."""
    return {f"{scope}/{path}".rstrip("/"): row for path, row in table.items()}


def theirs(table: Table, path: str) -> tuple[str, Turn]:
    """Return the published name and layout of our leaf `COLLECTION/MODULE/LEAF`.

    Raises:
        KeyError: the table has no matching row, which is a bug in the table.

    Example:
        >>> theirs({"layer_{i}/query": ("encoder.{i}.query", DENSE)}, "params/layer_3/query/kernel")[0]
        'encoder.3.query.weight'
    """
    name_path = path.partition("/")[2]
    module, _, leaf = name_path.rpartition("/")
    for pattern, (name, rule) in table.items():
        regex = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(pattern))
        for whole, key in ((module, leaf), (name_path, "")):  # "": the row is a single tensor
            if key in rule and (match := re.fullmatch(regex, whole)):
                suffix, turn = rule[key]
                return f"{name.format(**match.groupdict())}.{suffix}".strip("."), turn
    raise KeyError(f"no row of the table matches {path}")


def unwrapped(tensors: Mapping[str, np.ndarray], prefix: str = "") -> Mapping[str, np.ndarray]:
    """Remove the prefixes of wrapped models, `module.`, `_orig_mod.` and `model.`, if all names have them.

    Args:
        tensors: tensors by published name.
        prefix: prefix that the family's checkpoints have, which is kept.

    Example:
        >>> list(unwrapped({"module.model.pooler.dense.bias": np.zeros(3)}))
        ['pooler.dense.bias']
    """
    for wrapper in ("module.", "_orig_mod.", "model."):
        if tensors and wrapper != prefix and all(k.startswith(wrapper) for k in tensors):
            return unwrapped({k.removeprefix(wrapper): x for k, x in tensors.items()}, prefix)
    return tensors


def to_flax(
    tensors: Mapping[str, np.ndarray], shapes: Any, table: Table, ignored: Iterable[str] = (), prefix: str = ""
) -> tuple[Any, list[str]]:
    """Convert published tensors to Flax variables.

    Args:
        tensors: tensors by published name.
        shapes: tree of the module's variables, with shapes and dtypes.
        table: table of the family.
        ignored: regular expressions of tensor names to ignore, such as heads of the pretraining task.
        prefix: common prefix of tensor names, such as "bert."; ignored if the tensors lack it.

    Returns:
        The variables, and the names of the tensors that were ignored.

    Raises:
        UserError: a tensor is missing, unexpected, has another shape or two names, is not floating-point, or has values
            that are not finite; the message names each.
    """
    prefix = prefix if any(k.startswith(prefix) for k in tensors) else ""
    published: dict[str, str] = {}
    for full in tensors:
        name = current_name(full.removeprefix(prefix))
        if published.setdefault(name, full) != full:
            both = f"{shown(published[name])} and {shown(full)}"
            raise UserError(f"the weights have two tensors for one variable, {both}: remove one of them")
    remaining, wrong, missing, quantized, infinite = dict(published), {}, set(), [], []

    def take(path, shape):
        name, turn = theirs(table, jax.tree_util.keystr(path, simple=True, separator="/"))
        if name not in published:
            missing.add(f"{prefix}{name}")
            return shape
        remaining.pop(name, None)
        tensor = tensors[published[name]]
        expected = turn.published(shape.shape)
        if tensor.shape != expected:
            full = shown(published[name])
            wrong[name] = f"{full} has shape {shown(list(tensor.shape))}, expected {shown(list(expected))}"
            return shape
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            quantized.append(f"{shown(published[name])} has dtype {tensor.dtype}")
            return shape
        with np.errstate(over="ignore", invalid="ignore"):
            converted = np.asarray(turn.ours(tensor).astype(shape.dtype), order="C")
        if others := converted.size - np.count_nonzero(np.isfinite(converted)):
            count = f"{others:,} of {converted.size:,} values"
            infinite.append(f"{shown(published[name])} has {count} that are not finite in {np.dtype(shape.dtype)}")
        return converted

    variables = jax.tree_util.tree_map_with_path(take, shapes)
    known = (*ignored, r".*num_batches_tracked")
    unexpected = [full for name, full in remaining.items() if not any(re.fullmatch(p, name) for p in known)]
    errors = [f"missing: {_some(missing)}"] if missing else []
    errors += [f"unexpected: {_some(unexpected)}"] if unexpected else []
    errors += list(wrong.values())[:5]
    if errors:
        others = ", or ignore= the unexpected ones" if unexpected else ""
        remedy = f"fetch both of the same model{others}"
        raise UserError(f"the weights do not match config.json; {'; '.join(errors)}: {remedy}")
    if quantized:
        raise UserError(f"{_first(quantized)}: quantized weights are not supported, fetch the original ones")
    if infinite:
        raise UserError(f"{_first(infinite)}: fetch the weights again")
    return variables, sorted(remaining.values())


def _first(errors):
    return errors[0] + (f", likewise {len(errors) - 1} more tensors" if len(errors) > 1 else "")


def from_flax(variables: Any, table: Table, prefix: str = "") -> dict[str, np.ndarray]:
    """Convert Flax variables to published tensors, by name; `prefix` is that of the encoder's names."""
    tensors = {}
    for path, x in jax.tree_util.tree_leaves_with_path(variables):
        ours = jax.tree_util.keystr(path, simple=True, separator="/")
        name, turn = theirs(table, ours)
        name = f"{prefix}{name}" if ours.partition("/")[2].startswith("encoders_") else name
        if name.endswith("running_mean"):  # PyTorch's BatchNorm also counts its batches
            tensors[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
        whole = np.asarray(turn.theirs(np.asarray(x)), order="C")  # safetensors writes strided arrays wrongly
        tensors[name] = tensors[name] + whole if name in tensors else whole
    return tensors


def current_name(name: str) -> str:
    """Map a legacy name to the current one: TensorFlow-style LayerNorms of early BERTs, PyTorch's old weight_norm.

    Example:
        >>> current_name("cls.predictions.transform.LayerNorm.gamma")
        'cls.predictions.transform.LayerNorm.weight'
    """
    renamed = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    renamed |= {f".weight_{old}": f".parametrizations.weight.original{new}" for old, new in (("g", 0), ("v", 1))}
    for old, new in renamed.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name


def _some(names):
    return ", ".join(map(shown, sorted(names)[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
