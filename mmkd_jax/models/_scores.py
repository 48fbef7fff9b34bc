"""Further documents of each row, and the scores of all its documents."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, Taps


def negatives_of(batch: Batch, names: Sequence[str]) -> dict[str, Batch]:
    """Return modality -> the batch, for those of the modalities that it has; with the presence of partner rows."""
    found: dict[str, Batch] = {}
    for name in names:
        if any(k == name or k.startswith(f"{name}.") for k in batch):
            presence = name.replace("partner.", "partner.present.", 1)
            known = {f"present.{name}": batch[presence]} if presence != name and presence in batch else {}
            found[name] = {**batch, **known}
    return found


def tap_scores(tap: Taps, own: Float[Array, " b"], others: Sequence[Float[Array, " b"]]) -> None:
    """Tap `score`, and if the rows have further documents `negative_scores` and `scores`."""
    own = tap("score", own)
    if others:
        negative = tap("negative_scores", jnp.stack(others, -1))
        tap("scores", jnp.concatenate([own[:, None], negative], -1))
