"""Soft logic: truth values in [0, 1] and the Łukasiewicz connectives, for rules as functions of outputs."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Truth = Float[Array, "..."] | float


def both(a: Truth, b: Truth) -> Truth:
    """Conjunction a ∧ b = max(a + b − 1, 0).

    Example:
        >>> float(both(jnp.array(0.75), 0.5))
        0.25
    """
    return jnp.maximum(jnp.asarray(a) + b - 1, 0)


def either(a: Truth, b: Truth) -> Truth:
    """Disjunction a ∨ b = min(a + b, 1).

    Example:
        >>> float(either(jnp.array(0.75), 0.5))
        1.0
    """
    return jnp.minimum(jnp.asarray(a) + b, 1)


def negation(a: Truth) -> Truth:
    """Negation ¬a = 1 − a.

    Example:
        >>> float(negation(jnp.array(0.75)))
        0.25
    """
    return 1 - jnp.asarray(a)


def implies(a: Truth, b: Truth) -> Truth:
    """Implication a → b = min(1 − a + b, 1).

    Example:
        >>> float(implies(jnp.array(0.75), 0.5))
        0.75
    """
    return jnp.minimum(1 - jnp.asarray(a) + b, 1)
