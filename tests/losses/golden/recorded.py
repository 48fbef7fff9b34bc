"""Values and gradients of published implementations, as they were recorded; and what a row about one says."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

FOLDER = Path(__file__).resolve().parents[4] / "shared/golden"


@dataclass(frozen=True)
class Golden:
    """What ours is to one implementation.

    Attributes:
        cases: pattern of the ids of the recorded cases; of several that fit, the longest counts.
        verdict: "equal": the mean of our values; "composed": equal to what `ours` makes of our losses, such as a
            weighted sum; "differs": on purpose; "not offered".
        why: one sentence.
        ours: (hyperparameters, **inputs and parameters) -> what the implementation returned. Each says only how it
            reduces, weights and names: the numbers come from our losses. For "differs", ours in its place, to measure.
        paper: for a "composed" one that departs from its paper, the paper's loss, to measure how far the two are apart.
        single: the original holds a float32 constant or sum.
    """

    cases: str
    verdict: Literal["equal", "composed", "differs", "not offered"]
    why: str
    ours: Callable | None = None
    paper: Callable | None = None
    single: bool = False


def chosen(rows, id_: str) -> Golden | None:
    """The row that speaks of a case."""
    fitting = [r for r in rows if fnmatchcase(id_, r.cases)]
    return max(fitting, key=lambda r: len(r.cases)) if fitting else None


def row_of(rows, id_: str) -> Golden:
    """The row that speaks of a case; each has one."""
    row = chosen(rows, id_)
    assert row is not None, id_
    return row


@cache
def cases() -> dict[str, dict]:
    """The recorded cases by id; none where the folder is missing."""
    index = FOLDER / "losses.json"
    return {c["id"]: c for c in json.loads(index.read_text())["cases"]} if index.exists() else {}


@cache
def _arrays():
    return np.load(FOLDER / "losses.npz")


def compare(case: dict, row: Golden) -> tuple[float, float]:
    """The largest difference of value and of gradient, each relative to the largest magnitude in the recording."""
    (value, gradients), (theirs, slopes) = _ours(case, row.ours), _theirs(case)
    assert value.size == theirs.size, (value.shape, theirs.shape)
    top = max(np.abs(g).max() for g in slopes)
    return (
        float(np.abs(np.ravel(value) - np.ravel(theirs)).max() / np.abs(theirs).max()),
        float(max(np.abs(a - b).max() for a, b in zip(gradients, slopes, strict=True)) / top),
    )


def departure(case: dict, function: Callable) -> tuple[float, float, float]:
    """Their value and gradient as multiples of ours, and the cosine between the two gradients."""
    (value, gradients), (theirs, slopes) = _ours(case, function), _theirs(case)
    a, b = (np.concatenate([np.ravel(g) for g in x]) for x in (gradients, slopes))
    sizes = np.linalg.norm(a), np.linalg.norm(b)
    return float(theirs.sum() / value.sum()), float(sizes[1] / sizes[0]), float(a @ b / (sizes[0] * sizes[1]))


def _theirs(case):
    (value,) = (_arrays()[v] for v in case["outputs"].values())
    return value, [_arrays()[v] for v in case["grads"].values()]


def _ours(case, function):
    inputs = {k: _arrays()[v] for part in case["inputs"].values() for k, v in part.items()}
    inputs |= {k: _arrays()[v] for k, v in case["params"].items()}
    hyper = case["hyperparameters"] | {"repo": case["repo"].split("/")[-1]}
    with jax.enable_x64(True):
        inputs = {k: jnp.asarray(x, jnp.float64 if x.dtype.kind == "f" else None) for k, x in inputs.items()}
        moving = {k: inputs.pop(k) for k in case["grads"]}

        def total(moving):
            value = function(hyper, **{k.replace(".", "_"): x for k, x in (moving | inputs).items()})
            return jnp.sum(value), value

        gradients, value = jax.jit(jax.grad(total, has_aux=True))(moving)
        return np.asarray(value), [np.asarray(gradients[k]) for k in case["grads"]]


def channels_last(x):
    """[b, c, h, w] -> [b, h, w, c]."""
    return jnp.moveaxis(x, 1, -1)
