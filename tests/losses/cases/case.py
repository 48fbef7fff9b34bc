"""What the contract is checked with: one row a loss."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from mmkd_jax.typing import KINDS


@dataclass(frozen=True, eq=False)
class Case:
    """A loss, what goes in, and what must come out.

    Attributes:
        loss: the function.
        reference: the same from the paper's formula, in NumPy: one value per row, or one for the whole batch.
        inputs: arrays (or tuples of arrays) under the names of the loss's arguments; floating ones in float64. The
            first has the batch's rows as its first axis, and so has whatever is as long.
        by_hand: (inputs, hyperparameters, values), worked out with pencil and paper.
        hyper: keyword hyperparameters.
        zero_if_same: a student equal to its teacher gets the value 0 and the gradient 0.
        still_at_zero: a zero row of the student gets the gradient 0, as the loss divides by the row's norm.
        places: rows that are all one still get a gradient, though they are coupled: where they lie counts.
        infinite: arguments where a class at −inf, on this side only, makes the value +inf; None where no class may be.
        stopped: where the loss stops a gradient on the way: (inputs, **hyper) -> its mean as a function of the inputs,
            with what is stopped held as it is at those.
    """

    loss: Callable
    reference: Callable
    inputs: dict[str, Any]
    by_hand: tuple[dict, dict, Any]
    hyper: dict[str, Any] = field(default_factory=dict)
    zero_if_same: bool = True
    still_at_zero: bool = False
    places: bool = False
    infinite: tuple[str, ...] | None = None
    stopped: Callable | None = None

    @property
    def parameters(self):
        return inspect.signature(self.loss, eval_str=True).parameters

    @property
    def couples(self) -> bool:
        """Whether the loss relates the rows of a batch."""
        return "where" in self.parameters

    @property
    def rows(self) -> int:
        """Length of the batch."""
        return len(jax.tree.leaves(next(iter(self.inputs.values())))[0])

    @property
    def topic(self) -> str:
        return self.loss.__module__.split(".")[2]

    @property
    def numbers(self) -> list[str]:
        """Hyperparameters that may be traced."""
        return [k for k, p in self.parameters.items() if p.annotation in KINDS]

    @property
    def logits(self) -> list[str]:
        """Inputs whose last axis is classes, which may be at −inf."""
        return [k for k in self.floating if k in ("student", "teacher", "logits")]

    @property
    def floating(self) -> list[str]:
        """Inputs that may have a gradient."""
        return [k for k, x in self.inputs.items() if jax.tree.leaves(x)[0].dtype.kind == "f"]


class Sampler:
    """Draws arrays: `draw(4, 3)` one, `draw.pair(4, 3)` a student's and a teacher's."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape) -> np.ndarray:
        return self.rng.normal(size=shape)

    def pair(self, *shape, teacher=None) -> dict[str, Any]:
        return {"student": self(*shape), "teacher": self(*(teacher or shape))}


def both(student, teacher, **more):
    """A student's and a teacher's array from lists, and what else the loss takes."""
    return {"student": np.array(student, float), "teacher": np.array(teacher, float), **more}


def labels(*y):
    return np.array(y, np.int32)
