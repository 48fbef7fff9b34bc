"""The contract on docs/fusions.md, from the tests: python -m tests.models.fusion.page writes that section anew."""

import ast
import dataclasses
import pathlib
import re

import jax

from tests.models.fusion import test_contract as contract

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "fusions.md"
TITLE = "## Results and outputs"
HEAD = f"""{TITLE}

Every row below passes {{count}} checks of `tests/models/fusion/test_contract.py`. Modalities are image, text and \
audio, with 3, 2 and 4 features; b is the number of rows. `python -m tests.models.fusion.page` generates this section.

| fusion | result | other outputs | no modality present | order of the encoders |
| --- | --- | --- | --- | --- |
"""


def written(module) -> str:
    """The constructor of a fusion, without what is a default."""
    options = [f for f in dataclasses.fields(module) if f.name not in ("parent", "name")]
    given = [f"{f.name}={getattr(module, f.name)!r}" for f in options if getattr(module, f.name) != f.default]
    return f"`{type(module).__name__}({', '.join(given)})`".replace("'", '"')


def outputs(name) -> dict[str, list[str]]:
    """Output -> its shapes; modalities are M and layers i."""
    row, found = contract.ROWS[name], {}
    count = 2 ** len(row.modalities)
    shapes = jax.eval_shape(lambda *given: contract.objective(name, *given)[1], *arguments(name))
    for n, x in shapes.items():
        words = ["M" if w in contract.MODALITIES else "i" if w.isdigit() else w for w in n.split(".")]
        shape = ", ".join("b" if i == 0 and size == count else str(size) for i, size in enumerate(x.shape))
        found.setdefault(".".join(words), []).append(f"[{shape}]")
    return {n: list(dict.fromkeys(x)) for n, x in found.items()}


def arguments(name):
    given = contract.rows(contract.ROWS[name].modalities)
    return jax.eval_shape(contract.module(name).init, jax.random.key(0), *given, {}), *given


def section() -> str:
    """The section, up to the next title."""
    tests = ast.parse(pathlib.Path(contract.__file__).read_text()).body
    count = sum(isinstance(f, ast.FunctionDef) and f.name.startswith("test_") for f in tests)
    lines = []
    for name, row in contract.ROWS.items():
        found = outputs(name)
        (result,) = found.pop("fused")
        own = ", ".join(f"`{n}` {' or '.join(x)}" for n, x in found.items()) or "–"
        order = "that of its blocks" if row.blocks else "no matter"
        nothing = {"zeros": "zeros", "constant": "a constant"}[row.none]
        two = " of two modalities" if len(row.modalities) == 2 else ""
        lines.append(f"| {written(row.fusion)}{two} | {result} | {own} | {nothing} | {order} |")
    return HEAD.format(count=count) + "\n".join(lines) + "\n\n"


def page() -> str:
    """The page with the section anew."""
    return re.sub(f"{TITLE}\n.*?(?=^## )", lambda _: section(), PAGE.read_text(), flags=re.S | re.M)


if __name__ == "__main__":
    PAGE.write_text(page())
