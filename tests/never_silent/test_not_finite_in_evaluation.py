"""An output without a value is no answer: it is refused by row, or known as no class; never scored as class 0."""

import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mmkd_jax
from mmkd_jax import losses, tasks
from mmkd_jax.adversarial import FGSM
from mmkd_jax.core import generation, population
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import term
from mmkd_jax.core.state import Distillation
from mmkd_jax.errors import UserError
from mmkd_jax.evaluation import prior_shift, robustness
from mmkd_jax.paper_tables import Table
from mmkd_jax.paper_tables import run as tables
from tests.never_silent.setting import columns, loader, teacher_and_student, train

PACKAGE = pathlib.Path(mmkd_jax.__file__).parent

# task -> an output that is right in each row, and a batch
TASKS = {
    "classification": (
        tasks.classification(3),
        {"logits": 9 * np.eye(3, dtype=np.float32)},
        {"label": np.arange(3, dtype=np.int32)},
    ),
    "regression": (
        tasks.regression(),
        {"prediction": np.array([-1.0, 0.5, 1.0], np.float32)},
        {"label": np.array([-1.0, 0.5, 1.0], np.float32)},
    ),
    "retrieval": (
        tasks.retrieval(),
        {"query": np.eye(3, dtype=np.float32), "document": np.eye(3, dtype=np.float32)},
        {"example_id": np.arange(3, dtype=np.int32)},
    ),
    "tagging": (
        tasks.tagging(("A", "B", "C")),
        {"logits": 9 * np.eye(3, dtype=np.float32)[:, None]},
        {"label": np.arange(3, dtype=np.int32)[:, None], "label.mask": np.ones((3, 1), bool)},
    ),
    "multi_label": (
        tasks.multi_label(3),
        {"logits": np.eye(3, dtype=np.float32)},
        {"label": np.eye(3, dtype=np.int32)},
    ),
    "ordinal": (
        tasks.ordinal(3),
        {"logits": np.array([[-1, -1], [1, -1], [1, 1]], np.float32)},
        {"label": np.arange(3, dtype=np.int32)},
    ),
    "visual_questions": (
        tasks.visual_questions(3),
        {"logits": np.eye(3, dtype=np.float32)},
        {"label": np.eye(3, dtype=np.float32)},
    ),
    "multi_task": (
        tasks.multi_task({"a": tasks.classification(3), "b": tasks.regression("value", "value")}, "a"),
        {"logits": np.eye(3, dtype=np.float32), "value": np.arange(3, dtype=np.float32)},
        {"label": np.arange(3, dtype=np.int32), "value": np.array([-1, 0.5, 1], np.float32)},
    ),
    "generation": (
        tasks.generation(),
        {"logits": np.zeros((3, 2, 4), np.float32)},
        {"text.ids": np.ones((3, 2), np.int32), "text.mask": np.ones((3, 2), bool)},
    ),
}


def test_every_task_is_covered():
    made = {n for n, f in vars(tasks).items() if getattr(f, "__annotations__", {}).get("return") is tasks.Task}
    assert made == set(TASKS)


@pytest.mark.parametrize("there", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", TASKS)
def test_a_row_without_a_value_is_found(name, there):
    """An output that a metric reads is NaN, +∞, or −∞ alone → refused by row; padding rows and unread outputs are left
    alone.
    """
    task, outputs, batch = TASKS[name]
    spoilt = {k: x.copy() for k, x in outputs.items()}
    for x in spoilt.values():
        x[1] = there
    broken = jax.jit(lambda o, b: tasks.measure(task, o, b)[1])
    assert {k: x.tolist() for k, x in broken(spoilt, batch).items()} == {k: [False, True, False] for k in outputs}
    padding = batch | {"valid": np.array([True, False, True])}
    assert not any(x.any() for x in broken(spoilt, padding).values())
    unread = outputs | {"hidden": np.full((3, 2), np.nan, np.float32)}
    assert not any(x.any() for x in broken(unread, batch).values())


def test_a_removed_class_is_a_value():
    """Single classes at −∞ → scored; logits without a value → class −1, which equals no label."""
    logits = np.array([[-np.inf, 2.0, 1.0]], np.float32)
    task = tasks.classification(3)
    metrics, broken, _ = tasks.measure(task, {"logits": logits}, {"label": np.array([1], np.int32)})
    assert float(metrics["accuracy"][0]) == 1 and not broken["logits"].any()
    assert task.predict({"logits": jnp.array([[jnp.nan, 2.0, 1.0], [-jnp.inf] * 3])}).tolist() == [-1, -1]


def spoilt(row):
    x = columns()["x"]
    x[row, 1] = np.nan
    return columns(x=x)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_row_of_nan_is_refused_before_the_first_step(tmp_path, split):
    """NaN in a row of validation or test data in memory → refused by row before the first step."""
    with pytest.raises(UserError, match=rf"output 'logits' is not finite in row 7 of {split} \(1 such rows\)"):
        train(tmp_path, teacher_and_student(**{split: loader(spoilt(7))}))
    assert not list(tmp_path.glob("trainings/*/*/checkpoints/*"))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_streamed_row_of_nan_is_refused(tmp_path, split):
    """NaN in a streamed row of validation or test data → refused by row when it is read."""
    with pytest.raises(UserError, match=f"row 7 of {split}"):
        train(tmp_path, teacher_and_student(**{split: loader(spoilt(7), stream=True)}))


def test_a_training_that_diverges_in_its_last_step(tmp_path):
    """Variables are not finite after the step before an evaluation → they are named, not the rows."""
    steep = optax.chain(optax.scale(-1.0), optax.scale(1e38), optax.scale(1e38))
    trainings = {"teacher": teacher_and_student(optimizer=steep, evaluate_every=1)["teacher"]}
    with pytest.raises(
        UserError, match="training 'teacher', seed 0: params.w of 'teacher' is not finite after step 1: lower"
    ):
        train(tmp_path, trainings)


def test_a_training_that_diverges_before_its_first_checkpoint(tmp_path):
    """The loss is not finite before a checkpoint was saved → training, seed and step are named, and no checkpoint."""
    steep = optax.chain(optax.scale(-1.0), optax.scale(1e38), optax.scale(1e38))
    trainings = {"teacher": teacher_and_student(optimizer=steep)["teacher"]}
    with pytest.raises(UserError, match=r"'teacher', seed 0: .*is not finite at step 2: .*there is no checkpoint yet"):
        train(tmp_path, trainings)


def test_a_column_that_nothing_reads_may_hold_nan(tmp_path):
    """NaN in a column that nothing reads → ignored."""
    rows = loader(columns(weight=np.full(12, np.nan, np.float32)))
    train(tmp_path, teacher_and_student(data=rows, validation=rows, test=rows))


BATCH = {"x": jnp.array([[jnp.nan], [1.0]]), "label": jnp.array([0, 1])}
SIGN = plain(lambda params, batch: {"logits": jnp.concatenate([-batch["x"], batch["x"]], -1)})


def test_robustness_refuses_the_row():
    """NaN under attack → refused by row."""
    evaluate = robustness(SIGN, tasks.classification(2), "x", FGSM(eps=0.1, low=None, high=None))
    with pytest.raises(UserError, match="row 0 of the attacked data"):
        evaluate({"params": {}}, [BATCH])


def test_the_accuracy_of_a_member_is_nan():
    """NaN logits of a population member → its accuracy is NaN."""
    assert np.isnan(population.accuracy(SIGN, {"params": {}}, BATCH))


def test_no_shift_of_priors_fits_nan():
    """NaN logits in `prior_shift` → the shift is NaN."""
    assert np.isnan(prior_shift(jnp.array([[jnp.nan, 1.0]]), jnp.array([1]), jnp.array([False, True])))


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_no_token_is_generated_from_nan(temperature):
    """NaN logits in `generate` → token −1."""
    batch = {"text.ids": jnp.array([[3, 0]]), "text.mask": jnp.array([[True, False]]), "example_id": jnp.arange(1)}
    out = generation.generate(
        lambda batch, train: {"logits": jnp.full((1, 2, 5), jnp.nan)},
        batch,
        key=jax.random.key(0),
        temperature=temperature,
    )
    assert out["text.ids"].tolist() == [[3, -1]]


def test_a_table_refuses_a_seed_that_is_not_finite(tmp_path):
    """A paper table's member that is not finite → refused by row, column and seed."""
    file = tmp_path / "table_file.py"
    file.write_text(
        "import jax.numpy as jnp\nimport mmkd_jax as mmkd\n\n\ndef member(shared, seed):\n"
        "    return {'a': jnp.where(seed == 2, jnp.nan, 1.0)}\n\n\n"
        "table = mmkd.paper_tables.Table(title='t', source='s', rows={'r': {}}, columns=('a',), member=member, "
        "seeds=3, quick=1)\n"
    )
    assert Table  # the file's own import is lazy
    with pytest.raises(UserError, match="row 'r': 'a' of seed 2 is nan"):
        tables.run(file, tmp_path / "out", log=lambda line: None)
    assert tables.run(file, tmp_path / "out", seeds=2, log=lambda line: None)[0]["mean"] == 1.0


# argmax takes NaN for the largest: other uses than these go through numeric.top_class
KNOWN = {
    "numeric.py": 1,
    "evaluation/priors.py": 3,  # whose result is NaN then
    "augment/text.py": 1,  # of draws
    "data/raw/assignment.py": 1,  # of counts
    "data/raw/from_huggingface.py": 1,  # of comparisons
    "augment/modalities.py": 1,  # of draws
    "losses/contrastive/ccl.py": 1,  # whose values are NaN then
    "losses/logits/mft.py": 1,  # whose values are NaN then
    "metrics/calibration.py": 1,  # of probabilities, checked
    "metrics/operating_points.py": 1,  # of F1
    "crf.py": 2,  # tags of emissions with NaN are −1 in predictions
    "metrics/fairness.py": 1,  # of defined values
    "models/clip.py": 1,  # of token ids
    "models/fusion/cross_modal.py": 1,  # of masks
    "models/sentence.py": 3,  # of masks
    "methods/contrastive/crd.py": 1,  # of equalities
}


def test_every_argmax_is_known():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        calls = [
            c for c in ast.walk(ast.parse(path.read_text())) if isinstance(c, ast.Attribute) and c.attr == "argmax"
        ]
        if calls:
            found[path.relative_to(PACKAGE).as_posix()] = len(calls)
    assert found == KNOWN


def test_a_population_member_whose_loss_is_nan_is_nan():
    """A population member whose loss is not finite in some step → its variables are NaN."""
    rows = {"x": jnp.ones((3, 2)), "label": jnp.array([0, 1, 7]), "example_id": jnp.arange(3)}
    line = plain(lambda w, batch: {"logits": batch["x"] @ w["w"]}, lambda key, batch: {"w": jnp.zeros((2, 2))})
    task = term(losses.cross_entropy, logits="student.logits", labels="batch.label")
    distillation = Distillation({"student": line}, task, optax.sgd(0.1))
    train_once = jax.jit(lambda rows: population.train(distillation, lambda step: rows, 2, jax.random.key(0)))
    assert np.isnan(train_once(rows)["student"]["params"]["w"]).all()
    right = rows | {"label": jnp.array([0, 1, 1])}
    assert np.isfinite(train_once(right)["student"]["params"]["w"]).all()
