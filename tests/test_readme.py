"""The README's code runs as it stands there."""

import pathlib
import re

from mmkd_jax.cli import catalogue

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_own_training_loop():
    code = next(b for b in BLOCKS if b.startswith("import jax"))
    first = code.replace("range(20)", "range(1)")
    losses = []
    for text in (first, code):
        names: dict = {}
        exec(text, names)  # our own README
        losses.append(float(names["value"]))
    assert losses[1] < 0.5 * losses[0]


def test_swapped_terms_bind():
    code = next(b for b in BLOCKS if b.startswith("soft"))
    exec("import mmkd_jax as mmkd\n" + code, {})


def test_counts_are_those_of_the_catalogue_and_of_the_recorded_values():
    names = [entry.name for entry in catalogue.entries()]
    losses, methods = sum("." not in n for n in names), sum(n.startswith("methods.") for n in names)
    golden = (pathlib.Path(__file__).parents[1] / "docs" / "golden.md").read_text()
    cases = re.search(r"(\d+) cases", golden)
    assert f"{losses} losses and {methods} methods" in README
    assert cases and f"{cases[1]} recorded values" in README
