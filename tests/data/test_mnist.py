"""MNIST comes whole: `python -m pytest -m slow tests/data/test_mnist.py` fetches and prepares it."""

import numpy as np
import pytest

from mmkd_jax.data import commands, dataset

# images of each digit, as published
COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.mark.slow
def test_it_is_all_there(tmp_path):
    commands.prepare("mnist", tmp_path)
    seen = []
    for split, counts in COUNTS.items():
        columns = dataset.load("mnist", split, tmp_path).columns
        assert np.bincount(columns["label"]).tolist() == counts
        assert columns["image"].shape == (sum(counts), 28, 28, 1) and columns["image"].max() == 255
        seen += columns["example_id"].tolist()
    assert seen == list(range(70_000))


def test_it_is_listed():
    assert "mnist  (" in commands.list_()
