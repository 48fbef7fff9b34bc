"""What holds of the project as a whole: its imports, its files, its versions."""

import ast
import functools
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted((ROOT / "mmkd_jax").rglob("*.py"))
}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module of ours names in an import, wherever it stands in the file."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            # `from package import module` names the module; `from module import name` the module
            found |= {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module for a in node.names
            }
    return frozenset(found)


def importers(package: str) -> set[str]:
    """The modules of ours that import a package or anything in it."""
    return {m for m in MODULES if any(n == package or n.startswith(package + ".") for n in imports(m))}


def under(package: str) -> set[str]:
    return {m for m in MODULES if m == package or m.startswith(package + ".")}


def ours(module: str) -> set[str]:
    return {n for n in imports(module) if n.split(".")[0] == "mmkd_jax"}


def tracked() -> list[pathlib.Path]:
    """The files that git knows or would take; of a copy without git, all but what is hidden or built."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        paths = [ROOT / line for line in listed]
    except (FileNotFoundError, subprocess.CalledProcessError):
        folders = ("mmkd_jax", "tests", "experiments", "benchmarks", "docs")
        paths = [p for f in folders for p in (ROOT / f).rglob("*")] + [p for p in ROOT.iterdir() if p.name[0] != "."]
    return [p for p in paths if p.is_file() and "__pycache__" not in p.parts]


def test_importing_every_module_loads_neither_torch_nor_tensorflow_nor_transformers():
    names = sorted(MODULES)
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert set(names) <= loaded
    assert not {n.split(".")[0] for n in loaded} & {"torch", "tensorflow", "transformers", "sentencepiece"}


def test_neither_torch_nor_tensorflow_is_named_in_an_import():
    assert not importers("torch") | importers("tensorflow")


BASE = {
    "errors",
    "typing",
    "numeric",
    "convolution",
    "collectives",
    "crf",
    "validation",
    "files",
    "foreign_files",
    "looks_like",
    "variables_file",
}
BASE = {f"mmkd_jax.{n}" for n in BASE}


def test_losses_import_only_losses_and_what_lies_below():
    for module in under("mmkd_jax.losses"):
        assert {n for n in ours(module) if not n.startswith("mmkd_jax.losses")} <= BASE, module


def test_the_base_imports_nothing_above_it():
    for module in BASE:
        assert ours(module) <= BASE, module


def test_the_objective_imports_no_model_and_models_import_no_objective():
    models = under("mmkd_jax.models") | under("mmkd_jax.nn")
    above = (
        {"mmkd_jax.core.objective", "mmkd_jax.core.step"} | under("mmkd_jax.training") | under("mmkd_jax.experiment")
    )
    assert not imports("mmkd_jax.core.objective") & models
    for module in models:
        assert not ours(module) & above, module


def test_methods_import_no_model():
    for module in under("mmkd_jax.methods"):
        assert not ours(module) & under("mmkd_jax.models"), module


def test_only_the_command_line_knows_experiments():
    definition, runner = "mmkd_jax.experiment.definition", "mmkd_jax.experiment.runner"
    running, exporting = "mmkd_jax.cli.running", "mmkd_jax.cli.exporting"
    assert importers(definition) == {running, exporting, "mmkd_jax.experiment", runner}
    assert importers(runner) == {running, "mmkd_jax.experiment"}
    assert importers(running) == {"mmkd_jax.cli.commands", exporting} and importers("mmkd_jax.cli.commands") == {
        "mmkd_jax.cli"
    }


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("orbax", "mmkd_jax.training.checkpoint"),
        ("tensorflow_datasets", "mmkd_jax.data"),
        ("grain", "mmkd_jax.data"),
        ("matplotlib", "mmkd_jax.reporting.figures"),
        ("tyro", "mmkd_jax.cli"),
        ("ott", "mmkd_jax.losses.alignment.sinkhorn"),
        ("qwix", "mmkd_jax.deploy.quantization"),
        ("onnx", "mmkd_jax.deploy"),
        ("onnxruntime", "mmkd_jax.deploy"),
    ],
)
def test_a_dependency_has_one_home(package, home):
    users = importers(package)
    assert users and users <= under(home)


def acyclic(graph: dict[str, set[str]]) -> None:
    """Fail on a cycle, and show it."""
    done: set[str] = set()

    def visit(node, way):
        assert node not in way, " → ".join([*way[way.index(node) :], node])
        if node not in done:
            for following in sorted(graph[node]):
                visit(following, [*way, node])
            done.add(node)

    for node in graph:
        visit(node, [])


def test_our_modules_have_no_cycle():
    """Packages count as their files: `mmkd_jax.losses` re-exports, and is no module that its files import."""
    acyclic(
        {m: ours(m) & set(MODULES) for m in MODULES if MODULES[m].name != "__init__.py"}
        | {m: set() for m in MODULES if MODULES[m].name == "__init__.py"}
    )


def test_our_folders_have_no_cycle():
    """Of the whole package: what lies directly in it counts as a folder of its own."""

    def folder(module):
        return module.split(".")[1]

    graph: dict[str, set[str]] = {}
    for module in sorted(set(MODULES) - {"mmkd_jax"}):
        below = {folder(n) for n in ours(module) if n != "mmkd_jax"} - {folder(module)}
        graph.setdefault(folder(module), set()).update(below)
    acyclic(graph)
    with pytest.raises(AssertionError, match="core → .*losses → core|losses → .*core → losses"):
        acyclic(graph | {"losses": {"core"}})


def test_meshes_are_known_in_sharding_only():
    """Others ask `sharding.make_mesh` for one: jax's own default would make every contrastive loss a type error."""
    knows = {m for m, path in MODULES.items() if re.search(r"jax\.make_mesh|jax\.sharding", path.read_text())}
    assert knows == {"mmkd_jax.core.sharding"}


def test_no_python_file_has_more_than_400_lines():
    long = {}
    for folder in ("mmkd_jax", "tests", "experiments", "benchmarks"):
        sizes = {p: len(p.read_text().splitlines()) for p in (ROOT / folder).rglob("*.py")}
        long |= {str(p.relative_to(ROOT)): n for p, n in sizes.items() if n > 400}
    assert long == {}


def test_no_function_shadows_its_module():
    """An attribute of a package is one thing: what it exports, or a module in it."""
    packages = {m for m, path in MODULES.items() if path.name == "__init__.py" and m != "mmkd_jax"}
    for package in packages:
        inside = {m.removeprefix(f"{package}.") for m in MODULES if m.startswith(f"{package}.")}
        for node in ast.parse(MODULES[package].read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module != package:
                exported = {a.name for a in node.names} & inside
                assert not exported, f"{package} exports {exported}, and has modules of that name"


def test_no_tracked_file_names_a_path_of_a_machine():
    pattern = re.compile(r"(?<![\w.~])/(?:root|home/[a-z]|work/|Users/|tmp/)")
    found = {}
    for path in tracked():
        if ".array_record-" in path.name or path == pathlib.Path(__file__):
            continue
        if hits := pattern.findall(path.read_text(errors="replace")):
            found[str(path.relative_to(ROOT))] = hits
    assert found == {}


def test_constraints_are_names_and_versions_only():
    line = re.compile(r'[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+(; python_version (<|>=) "3\.\d+")?')
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 50
    assert [x for x in lines if not line.fullmatch(x)] == []


def test_every_dependency_is_bounded_and_constrained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = project["dependencies"] + extras["test"] + extras["docs"]
    known = {
        re.split("==", x)[0].lower().replace("_", "-") for x in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for need in needs:
        assert "<" in need.split(";")[0] or "==" in need.split(";")[0], need
        assert re.split(r"[<>=;\s]", need)[0].lower().replace("_", "-") in known, need
    assert not {"torch", "tensorflow"} & known


def test_every_import_of_ours_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["dependencies"] + [
        n for e in ("wandb", "onnx", "quant") for n in project["optional-dependencies"][e]
    ]
    declared = {re.split(r"[<>=;\s]", n)[0].lower().replace("-", "_") for n in needs}
    other = {"orbax_checkpoint": "orbax", "ott_jax": "ott", "pillow": "pil", "protobuf": "google"}
    declared = {other.get(n, n) for n in declared} | {"mmkd_jax"}
    named = {n.split(".")[0] for m in MODULES for n in imports(m)} - set(sys.stdlib_module_names)
    assert {n for n in named if n.lower() not in declared} == set()


def test_readme_holds_the_test_command():
    text = (ROOT / "README.md").read_text()
    after = text.split("<!-- test command -->")
    assert len(after) == 2
    block = re.match(r"\s*```\w*\n(.*?)\n```", after[1], re.S)
    assert block and "pytest" in block[1] and "constraints.txt" in block[1]


@pytest.mark.full
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_the_python_on_a_page_of_the_docs_runs(page):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)
    exec(compile("\n".join(blocks), page.name, "exec"), {"__name__": page.stem})


def test_links_within_the_docs_lead_somewhere():
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "tutorials").glob("*.ipynb")]
    for page in [*pages, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
