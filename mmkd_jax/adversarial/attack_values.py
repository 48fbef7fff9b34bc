"""Attacks as values: the parameters of PGD and FGSM, set once and passed to methods and to `robustness`."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.adversarial.attacks import pgd
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count, NotNegative
from mmkd_jax.validation import check_fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent (PGD) attack as a value: pass it to an adversarial method or to `robustness`.

    Formula: δ ← Π_ε(δ + a · sign ∇f) (linf) or Π_ε(δ + a · ∇f / ‖∇f‖) (l2); x + δ clipped to [low, high]

    In a method, `eps` and `step_size` are hyperparameters of the objective: `--objective.TERM.attack.eps 0.03` sets one
    from the command line. The input to attack, its mask and the initial perturbation belong to the method.

    Attributes:
        eps: ε, radius of the ball, in input units.
        step_size: a, in input units; None is ε, also where ε is changed from the command line (FGSM).
        steps: number of steps, 1 or more.
        norm: norm of the ball, "linf" or "l2".
        low: smallest input value; None for no bound. An attacked output of a model has no bounds.
        high: largest input value; None for no bound.

    Raises:
        UserError: a field is out of range; names the field, its value, and what was expected.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018,
        https://arxiv.org/abs/1706.06083

    Example:
        >>> import jax.numpy as jnp
        >>> attack = PGD(eps=0.5, step_size=0.25, steps=4)
        >>> attack(lambda x: x.sum(-1), jnp.array([[0.0, 0.75]]))
        Array([[0.5, 1. ]], dtype=float32)
    """

    eps: NotNegative = 8 / 255
    step_size: NotNegative | None = 2 / 255
    steps: Count = 10
    norm: Literal["linf", "l2"] = "linf"
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self):
        check_fields(self)
        known = (int, float, np.number)
        if isinstance(self.low, known) and isinstance(self.high, known) and not self.low < self.high:
            raise UserError(f"PGD: low is {self.low}; expected a number below high, which is {self.high}")

    def __call__(
        self,
        function: Callable[[Float[Array, "b ..."]], Float[Array, " b"]],
        x: Float[Array, "b ..."],
        *,
        start: Float[Array, "b ..."] | None = None,
    ) -> Float[Array, "b ..."]:
        """Return the attacked input, see `pgd`.

        Args:
            function: input -> one value per row, to be maximized.
            x: the clean input, [b, ...].
            start: initial δ, [b, ...]; zeros by default.
        """
        return pgd(
            function,
            x,
            eps=self.eps,
            step_size=self.eps if self.step_size is None else self.step_size,
            steps=self.steps,
            norm=self.norm,
            start=start,
            low=self.low,
            high=self.high,
        )

    def unbounded(self) -> "PGD":
        """Return the same attack without bounds on the values, as for a model's outputs.

        Example:
            >>> PGD(eps=0.1).unbounded().high is None
            True
        """
        return dataclasses.replace(self, low=None, high=None)


def FGSM(*, eps: NotNegative = 8 / 255, low: float | None = 0.0, high: float | None = 1.0) -> PGD:
    """Fast gradient sign method (FGSM) as a value: PGD of one step to the edge of the ball.

    Formula: x + ε sign ∇f(x), clipped to [low, high]

    Args:
        eps: ε, radius of the ball and size of the step, in input units.
        low: smallest input value; None for no bound.
        high: largest input value; None for no bound.

    Raises:
        UserError: an argument is out of range; names it, its value, and what was expected.

    Source: Goodfellow et al., Explaining and Harnessing Adversarial Examples, 2015, https://arxiv.org/abs/1412.6572

    Example:
        >>> import jax.numpy as jnp
        >>> FGSM(eps=0.5, low=-0.25)(lambda x: -x.sum(-1), jnp.zeros((1, 2)))
        Array([[-0.25, -0.25]], dtype=float32)
    """
    return PGD(eps=eps, step_size=None, steps=1, low=low, high=high)
