"""The documentation site: the reference covers the surface, and the notebooks fit the project's address."""

import importlib.util
import json
import pathlib
import re
import sys
from types import ModuleType

import pytest

import mmkd_jax as mmkd

DOCS = pathlib.Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))


def helper(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference, address = helper("reference"), helper("address")


def test_every_public_name_is_in_the_reference():
    pages = reference.pages()
    everything = "\n".join(pages.values())
    described = set(re.findall(r"\.\. auto\w+:: (\S+)", everything))
    described |= {f"{m}.{n}" for n, m in re.findall(r"py:data:: (\w+)\n   :module: (\S+)", everything)}
    for name in mmkd.__all__:
        value = getattr(mmkd, name)
        if not isinstance(value, ModuleType):
            assert f"mmkd_jax.{name}" in described
            continue
        assert f"{name} <{name}>" in pages["index"]
        for member in reference.members(value):
            assert re.search(rf"mmkd(_jax)?\.{name}\.{member}\b|:py:obj:`{member} <", pages[name]), (name, member)
    listed = {entry.name for entry in mmkd.catalogue.entries()}
    losses = {n.removeprefix("mmkd_jax.losses.") for n in described if n.startswith("mmkd_jax.losses.")}
    assert {n for n in listed if "." not in n} <= losses  # what `mmkd losses` lists
    assert len(described) > 300 and len(described) == len(re.findall(r"\.\. (?:auto\w+|py:data)::", everything))


def test_a_loss_page_has_types_formula_and_source():
    text = reference.prepared(
        str(mmkd.losses.dkd.__doc__).replace("\n    ", "\n"),
        {"alpha": "Scalar", "student": 'Float[Array, "*n c"]'},
        "Scalar",
    )
    assert ":Formula: ``T² (α KL(" in text and ":Source: Zhao et al." in text and ":Differs: " in text
    assert '    student (``Float[Array, "*n c"]``): logits s, [..., c].' in text
    assert "    alpha (``Scalar``): α, weight" in text and "    ``Scalar``: Values [...], with" in text


def test_prose_cannot_be_taken_for_markup():
    assert reference.markup("2 * x, |x|, x_, ±`k` and (`kl`)s, `kl`s, `a -> b`") == (
        r"2 \* x, \|x\|, x\_, ±\ :py:obj:`k` and (:py:obj:`kl`)s, :py:obj:`kl`\ s, ``a -> b``"
    )


def test_signatures_are_those_of_the_source():
    def shown(value):
        return reference.signature(None, "", "", value, None, "()", "")[0]

    assert shown(mmkd.losses.kl) == "(student, teacher, *, temperature=1.0)"
    assert shown(mmkd.Frozen) == "(model, init_from=None, layers=None, cache=None, random=False, *, labels=())"
    assert shown(mmkd.models.ImageMLP) == "(widths=(128, 64))"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebooks_are_stored_without_outputs_and_install_from_the_project_s_address(path):
    cells = json.loads(path.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    remedy = "run `python docs/address.py`"
    assert "".join(code[0]["source"]) == address.install_cell(), remedy
    assert ("colab-badge" in "".join(cells[0]["source"])) == bool(address.badge(path)), remedy
    assert address.badge(path) in "".join(cells[0]["source"]), remedy


def test_an_address_gives_install_line_badge_and_links(monkeypatch):
    monkeypatch.setattr(address, "repository", lambda: "https://github.com/owner/name")
    assert '%pip install -q "mmkd_jax @ git+https://github.com/owner/name"' in address.install_cell()
    assert "colab.research.google.com/github/owner/name/blob/main/docs/tutorials/" in address.badge(NOTEBOOKS[0])
    assert address.theme_options()["repository_url"] == "https://github.com/owner/name"
    source = ["[a](../experiments/av_digits.py) [b](losses.md) [c](../experiments/missing.py)"]
    address.link_to_host(None, "recipes", source)
    host = "https://github.com/owner/name/blob/main/experiments/av_digits.py"
    assert source == [f"[a]({host}) [b](losses.md) [c](../experiments/missing.py)"]
