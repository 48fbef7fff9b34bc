"""`import mmkd_jax as mmkd`: what is reachable, what it costs, and that readers are shown nothing deeper."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import pytest

import mmkd_jax as mmkd

ROOT = pathlib.Path(__file__).parents[1]
STUB = ast.parse((ROOT / "mmkd_jax" / "__init__.pyi").read_text())


def test_every_name_of_the_stub_is_there_and_no_other_is_listed():
    names = {a.name for node in STUB.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert names == set(dir(mmkd)) == set(mmkd.__all__)
    for name in names:
        assert getattr(mmkd, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        mmkd.nonsense  # noqa: B018  # pyrefly: ignore[missing-attribute]


def test_importing_the_package_imports_no_jax():
    code = "import sys, mmkd_jax; print(mmkd_jax.__version__, 'jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [mmkd.__version__, "False", "False"]


def blocks(path: pathlib.Path) -> str:
    """The Python of a file, of a page or of a notebook."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        return re.sub(r"(?m)^(\s*)%.*$", r"\1pass", "\n".join(cells))  # %pip
    return text if path.suffix == ".py" else "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.S | re.M))


SHOWN = [p for d in ("experiments", "benchmarks", "examples", "docs") for p in sorted((ROOT / d).rglob("*.py"))]
SHOWN += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))]
SHOWN += [ROOT / "README.md"]


@pytest.mark.parametrize("path", SHOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_readers_are_shown_imports_nothing_deeper(path):
    for node in ast.walk(ast.parse(blocks(path))):
        if isinstance(node, ast.Import):
            assert all(a.asname == "mmkd" or not a.name.startswith("mmkd_jax") for a in node.names), ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] != "mmkd_jax", ast.unparse(node)


@pytest.mark.parametrize("path", SHOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_readers_are_shown_exists(path):
    """Every `mmkd.a.b` leads somewhere: the pages' code is run elsewhere, experiments' reports are not."""
    for node in ast.walk(ast.parse(blocks(path))):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names, inner = [inner.attr, *names], inner.value
        if names and isinstance(inner, ast.Name) and inner.id == "mmkd":
            value = mmkd
            for name in names:
                value = getattr(value, name)
                if not isinstance(value, type(mmkd)):
                    break


def test_every_module_is_typed():
    assert (ROOT / "mmkd_jax" / "py.typed").is_file()
