"""Results are of one code, one set of numbers, one data set and one teacher; a difference is named before training."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import augment, files, losses
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine, term
from mmkd_jax.data import from_columns
from mmkd_jax.data.preprocess import ReadArray
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import RunOptions, definition, run, source_files
from mmkd_jax.gradients import pcgrad
from mmkd_jax.training import identity as identities
from mmkd_jax.training.identity import identity
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen, MovingAverage, Trained
from mmkd_jax.training.training import Training
from tests.never_silent.setting import CLASSES, columns, loader, model, teacher_and_student, train


def kd(**changes) -> Training:
    return dataclasses.replace(teacher_and_student()["kd"], **changes)


def objective(loss=losses.kl, **options):
    soft = term(loss, student="student.logits", teacher="teacher.logits", **options)
    return combine(task=kd().task.objective("student"), soft=soft)


def scaled_kl(student, teacher, *, temperature=1.0):
    return 30 * losses.kl(student, teacher, temperature=temperature)


def wide():
    return plain(
        lambda params, batch: {"logits": batch["x"] @ params["w"] + params["w"][0]},
        lambda key, batch: {"w": jax.random.normal(key, (4, CLASSES)) * jnp.float32(0.1)},
    )


ROLES: Any = dict(kd().models)
# field of Training -> a change of it, and the aspect in which its identity differs
CHANGES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "models": [
        ({"models": ROLES | {"student": Trained(wide())}}, "code"),
        ({"models": {"teacher": Frozen(model(), init_from="other.teacher"), "student": Trained(model())}}, "sources"),
        ({"models": ROLES | {"slow": MovingAverage(of="student", decay=0.5)}}, "code"),
    ],
    "objective": [
        ({"objective": objective(scaled_kl)}, "code"),
        ({"objective": objective(temperature=2)}, "settings"),
        ({"objective": objective(weight=0.5)}, "settings"),
    ],
    "optimizer": [({"optimizer": optax.sgd(0.2)}, "code"), ({"optimizer": optax.adam(0.1)}, "code")],
    "task": [
        ({"task": kd().task._replace(scores=lambda means: {k: 2 * v for k, v in means.items()})}, "code"),
        ({"task": kd().task._replace(metric="loss")}, "settings"),
    ],
    "data": [
        ({"data": loader(columns(x=columns()["x"] + 1))}, "data"),
        ({"data": loader(columns(), batch_size=6)}, "data"),
    ],
    "validation": [({"validation": loader(columns(x=columns()["x"] + 1))}, "data")],
    "test": [({"test": loader(columns(x=columns()["x"] + 1))}, "data")],
    "steps": [({"steps": 5}, "settings")],
    "evaluate": [({"evaluate": "teacher"}, "settings")],
    "gradients": [({"gradients": pcgrad()}, "code")],
    "augment": [
        ({"augment": augment.Compose(())}, "data"),
        ({"augment": lambda batch, ctx: {**batch, "x": -batch["x"]}}, "code"),
    ],
    "microbatches": [({"microbatches": 2}, "settings")],
    "evaluate_every": [({"evaluate_every": 1}, "settings")],
    "patience": [({"patience": 3}, "settings")],
    "select": [({"select": "last"}, "settings")],
}
NO_EFFECT: dict[str, Any] = {"save_every": 4, "keep_last": 3, "keep_best": 1, "keep_every": 4}
NO_EFFECT["preprocess"] = {"x": (ReadArray((4,)),)}


@pytest.fixture(scope="module")
def plain_identity():
    return identity(kd(), sources=sources(kd()))


def sources(training):
    return {path: {"from": source} for path, source in training.init_from.items()}


def test_every_field_of_a_training_counts():
    """A field of `Training` that can change a number → part of the identity; a new field fails this test."""
    assert {f.name for f in dataclasses.fields(Training)} == CHANGES.keys() | NO_EFFECT.keys()


@pytest.mark.parametrize(
    ("change", "aspect"), [pytest.param(c, a, id=f"{n}{i}") for n, x in CHANGES.items() for i, (c, a) in enumerate(x)]
)
def test_a_changed_field_changes_the_identity(plain_identity, change, aspect):
    """A changed model, loss, optimizer, number, data set, augmentation, metric → another identity, by its aspect."""
    training = kd(**change)
    changed = identities.differences(plain_identity, identity(training, sources=sources(training)))
    assert aspect in changed, changed


def test_fields_without_effect_on_numbers_change_nothing(plain_identity):
    """Other checkpoints, comments, names of functions, another process → the same identity."""
    assert identity(kd(**NO_EFFECT), sources=sources(kd())) == plain_identity
    assert identity(kd(objective=objective()), sources=sources(kd())) == plain_identity


def test_an_override_and_the_same_number_in_the_file_are_equal():
    """`--objective.soft.temperature 2` → the identity of a file that says temperature=2."""
    assert identity(kd(), {"soft.temperature": 2.0}) == identity(kd(objective=objective(temperature=2)))


def test_constants_count():
    """Arrays of a few or of many values in a loss → part of its program."""

    def with_table(value):
        table = np.full((40, CLASSES), value, np.float32)
        return identity(kd(objective=objective(lambda student, teacher: jnp.mean(student * teacher * table[:4]))))[
            "code"
        ]

    assert with_table(1.0) == with_table(1.0) and with_table(1.0)["loss"] != with_table(2.0)["loss"]


FILE = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np, optax
import mmkd_jax as mmkd
import my_loss

@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1
    lr: float = 0.1

config = Config()

def trainings(config):
    draw = np.random.default_rng(0)
    rows = {"x": draw.normal(size=(12, 4)).astype(np.float32), "label": (np.arange(12) % 3).astype(np.int32)}
    data = mmkd.data.InMemory(mmkd.data.from_columns(rows, "made-up"), 4)
    net = mmkd.plain(
        lambda params, batch: {"logits": batch["x"] @ params["w"]},
        lambda key, batch: {"w": 0.1 * jax.random.normal(key, (4, 3))},
    )
    task = mmkd.tasks.classification(3)
    shared = {"data": data, "validation": data, "test": data, "task": task}
    shared |= {"steps": 4, "optimizer": optax.sgd(config.lr)}
    loss = mmkd.term(my_loss.loss, student="student.logits", labels="batch.label")
    return {"labels": mmkd.Training(models={"student": mmkd.Trained(net)}, objective=mmkd.combine(own=loss), **shared)}
"""
LOSS = """
import mmkd_jax as mmkd

def loss(student, labels, where=None):
    return {scale} * mmkd.losses.cross_entropy(student, labels)
"""


@pytest.fixture
def written(tmp_path):
    """`(loss) -> results` of the experiment above, with this text of the module beside it."""
    path = list(sys.path)

    def run_with(text, seeds=1, **options):
        (tmp_path / "own.py").write_text(FILE)
        (tmp_path / "my_loss.py").write_text(text)
        sys.modules.pop("my_loss", None)
        loaded = definition.load(tmp_path / "own.py")
        config = dataclasses.replace(loaded.config, seeds=seeds)
        return run(loaded, config, options=RunOptions(tmp_path / "run", **options))

    yield run_with
    sys.path[:] = path
    sys.modules.pop("my_loss", None)


@pytest.mark.full
def test_an_edited_loss_is_not_mixed_with_the_old_one(written, tmp_path):
    """A loss is edited, in the package or in a module beside the experiment, and seeds are added → refused by name."""
    written(LOSS.format(scale=1))
    written("# a comment\n" + LOSS.format(scale=1).replace("student, labels, where", "student, labels, *, where"))
    with pytest.raises(UserError, match=r"'labels' \(seed 0\): its loss changed \(edited: my_loss.py\)"):
        written(LOSS.format(scale=30), seeds=2)
    results = written(LOSS.format(scale=30), seeds=2, allow_changed_code=True)
    assert [r["seed"] for r in results["labels"]] == [0, 1]
    table = (tmp_path / "run" / "table.txt").read_text()
    assert "labels, seed 0: made before a change of code (its loss changed)" in table
    made = files.read_json(tmp_path / "run" / "config.json")["configurations"]
    assert sorted(len(each["results"]) for each in made) == [1, 1]
    codes = {r["made_with"]["code"] for r in results["labels"]}
    assert len(codes) == 2


def test_every_source_file_of_the_package_is_in_the_digest():
    """A result → records a digest of the package's files and of those beside the experiment."""
    root = pathlib.Path(source_files.__file__).parents[1]
    assert set(source_files.source_files()) == {f"mmkd_jax/{p.relative_to(root)}" for p in root.rglob("*.py")}


def weights(value):
    return PretrainedVariables({"params": {"w": np.full((4, CLASSES), value, np.float32)}})


def test_other_weights_are_other_sources(tmp_path):
    """Pretrained variables are replaced by others → refused by name; `--allow-changed-sources` keeps the results."""

    def student(value):
        roles = {"teacher": Frozen(model(), init_from=weights(value)), "student": Trained(model())}
        return {"kd": kd(models=roles)}

    train(tmp_path / "run", student(1.0))
    with pytest.raises(UserError, match="'kd' .seed 0.: init_from teacher: it has other variables.*-changed-sources"):
        train(tmp_path / "run", student(2.0))
    train(tmp_path / "run", student(2.0), options=RunOptions(allow_changed_sources=True))
    assert "kd, seed 0: made before a change of sources" in (tmp_path / "run" / "table.txt").read_text()


def own(value, scale=1.0):
    """A model whose `init` returns its weights."""
    return plain(
        lambda params, batch: {"logits": scale * (batch["x"] @ params["w"])},
        lambda key, batch: {"w": jnp.full((4, CLASSES), value)},
    )


@pytest.mark.parametrize("cache", [None, ("logits",)])
@pytest.mark.parametrize("teacher", [own(2.0), own(1.0, scale=100.0)], ids=["weights", "program"])
def test_a_teacher_that_is_cached_counts(cache, teacher):
    """Another teacher, in its weights or program, cached or not → another identity."""

    def student(teacher):
        return kd(models={"teacher": Frozen(teacher, cache=cache), "student": Trained(model())})

    assert "code" in identities.differences(identity(student(own(1.0))), identity(student(teacher)))


def test_layers_that_a_model_starts_from_count():
    """A model starts from other layers of the same variables → another identity."""

    def student(layers):
        role = Trained(model(), init_from="teacher.teacher", layers=layers)
        training = kd(models={"teacher": Frozen(model(), init_from="teacher.teacher"), "student": role})
        shapes = {"params": {"w": jax.ShapeDtypeStruct((4, CLASSES), np.float32)}}
        return identity(training, initial={"student": shapes, "teacher": shapes})["code"]["initializer"]

    same = student(lambda initial, source: source)
    assert same == student(lambda own, other: other) != student(lambda initial, source: initial)


def test_every_change_of_a_data_set_counts():
    """Columns are replaced twice, or rows selected twice → the fingerprint has every step."""
    rows = from_columns(columns(a=np.arange(12) > 5, b=np.arange(12) > 2), "made-up")
    more = [rows.with_columns(c=np.full(12, i, np.int32)).with_columns(d=np.zeros(12, np.int32)) for i in range(2)]
    assert more[0].fingerprint != more[1].fingerprint
    kept = [rows.where(n).with_columns(k=np.ones(rows.counts[n], bool)).where("k") for n in "ab"]
    assert kept[0].fingerprint["where"] != kept[1].fingerprint["where"]


def test_an_object_without_a_fixed_repr_is_refused():
    """A fingerprint with an object whose `repr` is its address → refused: it differs in every process."""
    with pytest.raises(UserError, match="a fingerprint contains <object object at 0x.*give it a fixed"):
        files.as_json({"partners": object()})


@pytest.mark.full
def test_a_teacher_cache_is_of_one_teacher(tmp_path):
    """Runs share `--cache` → each teacher, by variables and program, has its own records."""

    def student(value, net=None):
        roles = {
            "teacher": Frozen(net or model(), init_from=weights(value), cache=("logits",)),
            "student": Trained(model()),
        }
        return {"kd": kd(models=roles)}

    options = RunOptions(cache=tmp_path / "cache")
    for i, trainings in enumerate([student(1.0), student(2.0), student(1.0, wide()), student(1.0)]):
        train(tmp_path / f"run{i}", trainings, options=options)
    assert len([p for p in (tmp_path / "cache").iterdir() if p.is_dir()]) == 3


def test_what_is_compared_is_recorded(tmp_path):
    """A finished result → has its identity, and the configuration that it was made with."""
    train(tmp_path / "run", {"teacher": teacher_and_student()["teacher"]})
    result = files.read_json(tmp_path / "run" / "trainings" / "teacher" / "0" / "result.json")
    assert set(result["identity"]) == set(identities.ASPECTS) and result["identity"]["code"]["jax"] == jax.__version__
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"][0].keys().isdisjoint({"identity"})
