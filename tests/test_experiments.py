"""Every experiment of the repository is sound: all its paths, masks and names, from shapes alone."""

import pathlib

import pytest

from mmkd_jax import experiment

FILES = sorted((pathlib.Path(__file__).parents[1] / "experiments").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_what_it_names_is_there(file):
    loaded = experiment.load(file)
    parts = loaded.parts(loaded.config)
    assert experiment.check(parts, {}) and loaded.baseline in parts
