"""Untrained frozen models: which initial variables depend on the random key, read off the traced program."""

from collections.abc import Mapping
from typing import Any

import jax

from mmkd_jax.core.dependence import depends_on_first
from mmkd_jax.core.model import FROZEN
from mmkd_jax.core.state import augmented_spec, initial_variables
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.roles import Frozen, MovingAverage
from mmkd_jax.training.training import Training


def check_trained(training: Training, variables: Mapping[str, Any]) -> None:
    """Raise for frozen models, and frozen parameters of trained ones, that are random: they teach nothing.

    Args:
        training: the training.
        variables: variables given for its models, or their shapes; for cached models they need not be known.

    Raises:
        UserError: a frozen model has random variables, and `random=True` does not allow them; or a partly trained model
            has random parameters that are frozen.
    """
    for name, model in training.networks.items():
        if model.tuning is None or isinstance(training.models[name], MovingAverage):
            continue
        paths = random_variables(training, name, variables)
        if paths := [p.removeprefix(f"{FROZEN}.") for p in paths if p.startswith(f"{FROZEN}.")]:
            raise UserError(
                f"model {name!r} has frozen parameters that were never trained: {choices(paths[:3])}"
                f"{', …' * (len(paths) > 3)} would be random. Give it variables, init_from=…, or train them, too"
            )
    for name, role in training.models.items():
        if not isinstance(role, Frozen) or role.random or (role.cache_spec is not None and name in training.init_from):
            continue
        if paths := random_variables(training, name, variables):
            raise UserError(
                f"frozen model {name!r} was never trained: {choices(paths[:3])}{', …' * (len(paths) > 3)} would be "
                'random. Give it variables, init_from="TRAINING.MODEL" or PretrainedVariables(…); for a random teacher '
                "on purpose, random=True"
            )


def random_variables(training: Training, name: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths of a model's initial variables that depend on the random key."""
    given = {k: v for k, v in variables.items() if k.partition(".")[0] == name}
    spec = augmented_spec(training.augment, training.data.spec)

    def initial(key, given):
        batch = {k: jax.numpy.zeros(s.shape, s.dtype) for k, s in spec.items()}
        return initial_variables(name, training.networks[name], key, batch, given, training.layers.get(name))

    shapes, random = depends_on_first(initial, jax.eval_shape(lambda: jax.random.key(0)), given)
    paths = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree.leaves_with_path(shapes)]
    return [p for p, is_random in zip(paths, jax.tree.leaves(random), strict=True) if is_random]
