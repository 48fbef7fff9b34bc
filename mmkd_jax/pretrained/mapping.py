"""Published tensors to Flax variables and back, by a family's table; no tensor is renamed by guesswork.

A table has a row for each module: `"layer_{i}/query": ("encoder.{i}.query", DENSE)`. The rule says which tensors a
module has, what they are called there, and how they are laid out.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax.errors import UserError


class Turn(NamedTuple):
    """How a tensor is laid out: `ours(theirs)`, and `theirs(ours)`."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


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
    """A dense layer that is published as one of several stacked in one, such as query, key and value."""

    def turn(laid: Turn) -> Turn:
        def stacked(x):  # with zeros for the others: `from_flax` adds them up
            return np.concatenate([laid.theirs(x) if j == i else np.zeros_like(laid.theirs(x)) for j in range(of)])

        return Turn(lambda x: laid.ours(np.split(x, of)[i]), stacked)

    return {leaf: (name, turn(laid)) for leaf, (name, laid) in DENSE.items()}


def inside(scope: str, table: Table) -> Table:
    """The table of a module that stands within another under that name."""
    return {f"{scope}/{path}".rstrip("/"): row for path, row in table.items()}


def theirs(table: Table, path: str) -> tuple[str, Turn]:
    """The published name of our leaf `COLLECTION/MODULE/LEAF`, and how it is laid out there.

    Raises:
        KeyError: the table has no row for it, which is a mistake in the table.

    Example:
        >>> theirs({"layer_{i}/query": ("encoder.{i}.query", DENSE)}, "params/layer_3/query/kernel")[0]
        'encoder.3.query.weight'
    """
    own = path.partition("/")[2]
    module, _, leaf = own.rpartition("/")
    for pattern, (name, rule) in table.items():
        regex = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(pattern))
        for whole, key in ((module, leaf), (own, "")):  # "" is a tensor that is a row by itself
            if key in rule and (found := re.fullmatch(regex, whole)):
                suffix, turn = rule[key]
                return f"{name.format(**found.groupdict())}.{suffix}".strip("."), turn
    raise KeyError(f"no row of the table fits {path}")


def to_flax(
    tensors: Mapping[str, np.ndarray], shapes: Any, table: Table, ignored: Iterable[str] = (), prefix: str = ""
) -> Any:
    """Variables of those shapes, from published tensors.

    Args:
        tensors: by published name.
        shapes: tree of what has a shape and a dtype: the module's variables.
        table: of the family.
        ignored: patterns of names that belong to no module of ours, such as heads of the pretraining task.
        prefix: of all names, such as "bert."; it is left out where no tensor has it.

    Raises:
        UserError: a tensor is missing, unexpected, or has another shape; all are named.
    """
    prefix = prefix if any(k.startswith(prefix) for k in tensors) else ""
    there = {_today(k.removeprefix(prefix)): k for k in tensors}
    left, wrong, missing = dict(there), {}, set()

    def take(path, shape):
        name, turn = theirs(table, jax.tree_util.keystr(path, simple=True, separator="/"))
        if name not in there:
            missing.add(f"{prefix}{name}")
            return shape
        left.pop(name, None)
        given = tensors[there[name]]
        expected = turn.theirs(np.broadcast_to(np.zeros((), np.int8), shape.shape)).shape
        if given.shape != expected:
            wrong[name] = f"{there[name]} has shape {list(given.shape)}, expected {list(expected)}"
            return shape
        return np.asarray(turn.ours(given).astype(shape.dtype), order="C")

    found = jax.tree_util.tree_map_with_path(take, shapes)
    known = (*ignored, r".*num_batches_tracked")
    unexpected = [full for name, full in left.items() if not any(re.fullmatch(p, name) for p in known)]
    said = [f"missing: {_some(missing)}"] if missing else []
    said += [f"unexpected: {_some(unexpected)}"] if unexpected else []
    said += list(wrong.values())[:5]
    if said:
        raise UserError("the weights do not fit config.json; " + "; ".join(said))
    return found


def from_flax(variables: Any, table: Table) -> dict[str, np.ndarray]:
    """Published tensors, by name, from variables."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(variables):
        name, turn = theirs(table, jax.tree_util.keystr(path, simple=True, separator="/"))
        if name.endswith("running_mean"):  # PyTorch's BatchNorm counts its batches beside its statistics
            found[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
        whole = np.asarray(turn.theirs(np.asarray(x)), order="C")  # safetensors writes strided arrays wrongly
        found[name] = found[name] + whole if name in found else whole
    return found


def _today(name):
    """Older names: TensorFlow's for a LayerNorm in the first BERTs, and PyTorch's former ones of normalised weights."""
    old = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    old |= {f".weight_{was}": f".parametrizations.weight.original{now}" for was, now in (("g", 0), ("v", 1))}
    for was, now in old.items():
        name = name.removesuffix(was) + now if name.endswith(was) else name
    return name


def _some(names):
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
