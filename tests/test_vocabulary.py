"""Names of version 0.1 are gone, and whoever uses one is told the new one."""

import ast
import pathlib
import subprocess
import sys

import pytest

import mmkd_jax as mmkd
from mmkd_jax import renamed
from mmkd_jax.core.objective import stateless, term
from mmkd_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]

# Ordinary words that mean something else where they stand: word -> folders or files. All other old names stand nowhere.
ORDINARY: dict[str, tuple[str, ...]] = {
    "answer": ("benchmarks/", "experiments/", "tests/"),
    "axis": (
        "docs/",
        "experiments/",
        "mmkd_jax/deploy/",
        "mmkd_jax/losses/",
        "mmkd_jax/models/",
        "mmkd_jax/nn/",
        "mmkd_jax/paper_tables/",
        "mmkd_jax/pretrained/",
        "mmkd_jax/training/",
        "mmkd_jax/validation.py",
        "tests/",
    ),
    "checked": ("experiments/", "mmkd_jax/paper_tables/", "tests/"),
    "expected": ("benchmarks/", "mmkd_jax/", "tests/"),
    "given": ("benchmarks/", "experiments/", "mmkd_jax/", "tests/"),
    "held": ("benchmarks/", "tests/"),
    "keep": (
        "mmkd_jax/augment/text.py",
        "mmkd_jax/nn/dropout.py",
        "mmkd_jax/pretrained/",
        "mmkd_jax/training/checkpoint.py",
        "tests/",
    ),
    "learned": ("experiments/", "tests/"),
    "look": ("tests/",),
    "measured": ("tests/",),
    "memory": ("tests/",),
    "note": ("mmkd_jax/paper_tables/render.py",),
    "nothing": ("tests/",),
    "numbered": ("tests/",),
    "numbers": ("mmkd_jax/data/datasets/av_digits.py", "mmkd_jax/validation.py", "tests/"),
    "once": ("mmkd_jax/evaluation/permutation.py", "tests/"),
    "part": (
        "benchmarks/",
        "experiments/",
        "mmkd_jax/augment/",
        "mmkd_jax/data/partners.py",
        "mmkd_jax/pretrained/",
        "tests/",
    ),
    "parts": (
        "mmkd_jax/experiment/run_folder.py",
        "mmkd_jax/losses/logits/dkd.py",
        "tests/",
    ),
    "place": ("benchmarks/", "experiments/", "mmkd_jax/", "tests/"),
    "rollout": ("tests/",),
    "say": ("mmkd_jax/data/", "tests/"),
    "shifted": ("mmkd_jax/convolution.py", "mmkd_jax/methods/structure/word_kd.py", "mmkd_jax/nn/conv.py"),
    "spread": ("benchmarks/", "experiments/", "mmkd_jax/", "tests/"),
    "stop": ("tests/",),
    "take": (
        "mmkd_jax/data/",
        "mmkd_jax/losses/contrastive/clip_gd.py",
        "mmkd_jax/models/vit.py",
        "mmkd_jax/nn/connectors.py",
        "mmkd_jax/pretrained/",
        "tests/",
    ),
}


def identifiers(path: pathlib.Path):
    """Every identifier of a file, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.value.lineno
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno


def test_no_old_name_is_an_identifier():
    found = []
    for folder in ("mmkd_jax", "tests", "experiments", "benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            where = path.relative_to(ROOT).as_posix()
            for name, line in identifiers(path):
                if name in renamed.RENAMED and not where.startswith(ORDINARY.get(name, ())):
                    found.append(f"{where}:{line}: {name}")
    assert found == []


def test_a_word_is_called_ordinary_only_where_it_stands():
    stands = {
        (name, path.relative_to(ROOT).as_posix())
        for folder in ("mmkd_jax", "tests", "experiments", "benchmarks", "docs")
        for path in (ROOT / folder).rglob("*.py")
        for name, _ in identifiers(path)
        if name in ORDINARY
    }
    idle = [
        (w, p)
        for w, places in ORDINARY.items()
        for p in places
        if not any(n == w and f.startswith(p) for n, f in stands)
    ]
    assert idle == []


@pytest.mark.parametrize(("old", "new"), [("Part", "Training"), ("Views", "Outputs"), ("schemes", "gradients")])
def test_an_old_name_of_the_surface_answers_with_the_new_one(old, new):
    with pytest.raises(AttributeError, match=f"`{old}` is now `{new}`"):
        getattr(mmkd, old)


def test_a_loss_that_would_no_longer_gather_is_refused():
    def coupled(student, *, axis=None):
        return student.mean()

    with pytest.raises(UserError, match="coupled has an argument 'axis', which is called axis_name now"):
        term(coupled, student="student.embedding")
    with pytest.raises(UserError, match="'axis', which is called axis_name now"):
        stateless(lambda outputs, axis=None: outputs["student.embedding"])


CONFIG = """
import dataclasses

import mmkd_jax as mmkd

@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1

config = Config()
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def parts(config):\n    return {}\n", "does not define trainings; `parts` is now `trainings`"),
        ("def trainings(config):\n    return mmkd.Part()\n", "`Part` is now `Training`"),
        ("def trainings(config):\n    return mmkd.Training(take={})\n", "'take'; `take` is now `init_from`"),
        (
            "def trainings(config):\n    return mmkd.models.Bert(9, heads=2)\n",
            "`heads` is now `config.num_heads`",
        ),
        ("from mmkd_jax import schemes\n\ndef trainings(config):\n    return {}\n", "`schemes` is now `gradients`"),
    ],
)
def test_an_old_name_in_a_file_answers_with_the_new_one(tmp_path, code, message):
    path = tmp_path / "own.py"
    path.write_text(CONFIG + code)
    command = [sys.executable, "-m", "mmkd_jax.cli", "explain", str(path)]  # here types are checked in other words
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_an_old_name_on_the_command_line_answers_with_the_new_one(capsys):
    with pytest.raises(SystemExit):
        mmkd.main(["explain", str(ROOT / "tests" / "tiny_experiment.py"), "--scheme.alpha", "0.5"])
    assert "`scheme` is now `gradients`" in capsys.readouterr().err
