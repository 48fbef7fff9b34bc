"""Named tuples of more than two fields are read by attribute; pairs are unpacked, as in optax."""

import dis
import doctest
import importlib
import inspect
import pkgutil
import sys

import jax.numpy as jnp
import pytest

import mmkd_jax
from mmkd_jax.cli import main
from mmkd_jax.core.objective import Term
from tests import tiny_experiment

MODULES = [importlib.import_module(m.name) for m in pkgutil.walk_packages(mmkd_jax.__path__, "mmkd_jax.")]
RECORDS = {
    kind
    for module in MODULES
    for kind in vars(module).values()
    if inspect.isclass(kind) and issubclass(kind, tuple) and kind.__module__.startswith("mmkd_jax.")
    if len(getattr(kind, "_fields", ())) > 2
}
HOMES = sorted({kind.__module__ for kind in RECORDS})


@pytest.fixture
def unpacked(monkeypatch):
    """Where our code unpacks one of them, recorded as it runs: file:line name."""
    found = []

    def iterate(self):
        frame = sys._getframe(1)
        ours = frame.f_globals.get("__name__", "").startswith(("mmkd_jax.", "tests.", "experiments."))
        if ours and dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("UNPACK_SEQUENCE", "UNPACK_EX"):
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {type(self).__name__}")
        return tuple.__iter__(self)

    for kind in RECORDS:
        monkeypatch.setattr(kind, "__iter__", iterate, raising=False)
    return found


def test_there_are_some():
    assert {"Distillation", "Fitted", "Model", "Program", "Task", "Term"} <= {kind.__name__ for kind in RECORDS}


def test_an_unpacked_one_is_found(unpacked):
    value, *_ = Term(jnp.ones(3))
    assert value.shape == (3,) and len(unpacked) == 1 and "Term" in unpacked[0]


def test_a_run_unpacks_none(unpacked, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(
            [
                "run",
                tiny_experiment.__file__,
                "--steps",
                "5",
                "--seeds",
                "1",
                "--cached",
                "--out",
                str(tmp_path / "run"),
            ]
        )
    assert end.value.code == 0, capsys.readouterr().err
    assert not unpacked


@pytest.mark.parametrize("name", HOMES)
def test_the_examples_of_their_modules_unpack_none(unpacked, name):
    doctest.testmod(importlib.import_module(name))
    assert not unpacked
