"""A setting of recipes on made-up rows: image and audio that tell the class, one of so many rows labelled."""

import numpy as np
import optax

from mmkd_jax import data, recipes
from mmkd_jax.tasks import classification
from tests.small import CLASSES, net

WIDTH = {"large": 8, "middle": 6, "small": 4}


def setting(one_in: int, optimizer: optax.GradientTransformation, save_every: int = 1_000) -> recipes.Setting:
    """A batch holds as many rows as are labelled, of 48."""
    draw, label = np.random.default_rng(0), (np.arange(48) % CLASSES).astype(np.int32)
    columns = {
        "image": (draw.random((48, 2, 3, 1)) + label[:, None, None, None]).astype(np.float32),
        "audio": (draw.normal(size=(48, 4, 3)) * (1 + label[:, None, None])).astype(np.float32),
        "label": label,
        "labelled": np.arange(48) % one_in == 0,
    }
    rows, batch = data.from_columns(columns, "made-up"), 48 // one_in
    return recipes.Setting(
        task=classification(CLASSES),
        labeled_data=data.InMemory(rows.where("labelled"), batch),
        all_data=data.InMemory(rows, batch),
        validation=data.InMemory(rows, 48),
        test=data.InMemory(rows, 48),
        model=lambda modalities, size: net(WIDTH[size], *modalities),
        optimizer=lambda size, steps: optimizer,
        steps=4,
        modalities=("image", "audio"),
        seen=("audio",),
        evaluate_every=2,
        save_every=save_every,
    )
