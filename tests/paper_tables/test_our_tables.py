"""The tables under experiments/tables: all of them can be traced, and none sees what it must not."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmkd_jax as mmkd
from mmkd_jax import losses
from mmkd_jax.core.objective import combine, term
from mmkd_jax.experiment.python_file import module
from mmkd_jax.paper_tables import Table
from mmkd_jax.paper_tables.run import _member, all_tables

FILES = all_tables()
REDUCED = ("av-digits", "enrichment", "fusion")  # the whole ones take minutes to trace


def loaded(name):
    return module(pathlib.Path(FILES[name]), "table", ("table",))


def digits(rows):
    images = jax.ShapeDtypeStruct((rows, 28, 28, 1), np.uint8)
    hyperparams = jax.ShapeDtypeStruct((rows,), np.int32)
    return {"image": images, "label": hyperparams, "example_id": hyperparams}


def shared_spec(name, file):
    """What members read, in shapes."""
    if name not in ("hinton-mnist", "lopez-paz-mnist", *REDUCED):
        return file.table.shared(None)
    held = {split: digits(2000) for split in ("train", "test", "validation")}
    if name == "lopez-paz-mnist":
        return {
            s: {"image": jax.ShapeDtypeStruct((2000, 28, 28), np.uint8), "label": d["label"]} for s, d in held.items()
        }
    if name == "hinton-mnist":
        places = {n: jax.ShapeDtypeStruct((1000,), np.int64) for n in file.LACKING}
        said = jax.ShapeDtypeStruct((2, 2000, 10), np.float32)
        return held | places | {"teachers": {"train": said, "test": said}}
    heard = {s: d | {"audio": jax.ShapeDtypeStruct((2000, 32, 32), np.uint8)} for s, d in held.items()}
    if name == "fusion":
        found = {k: (2, 4) for k in ("teacher", "teacher without audio", "validation")}
        found |= {"logits": (2, 4, 2000, 10)} | dict.fromkeys(file.LABELS[0], (2, 2))
        own = {k: jax.ShapeDtypeStruct(v, np.float32) for k, v in found.items()}
        return {"arrays": heard, "fusions": {"Gated": own}}
    if name == "enrichment":
        sizes = {"logits": (2000, 10), "features.audio": (2000, 128), "features.image": (2000, 64), "test": ()}
        teachers = {k: jax.ShapeDtypeStruct((1, 22, *v), np.float32) for k, v in sizes.items()}
        settings = {
            f"hears, {kind}": dict.fromkeys(
                next(iter(methods.values()))[0], jax.ShapeDtypeStruct((len(methods), 1), np.float32)
            )
            for kind, methods in file.METHODS.items()
        }
        return {"arrays": heard, "teachers": teachers, "settings": settings}
    sizes = {"logits": (2000, 10), "embedding": (2000, 64), "test": ()}
    said = {k: jax.ShapeDtypeStruct((3, 22, *v), np.float32) for k, v in sizes.items()}
    hyperparams = {m: {k: jax.ShapeDtypeStruct((3,), np.float32) for k in own[0]} for m, own in file.SETTINGS.items()}
    return {"held": heard, "teachers": said, "hyperparams": dict.fromkeys(file.SUBSETS, hyperparams)}


def test_there_are_all_of_them():
    asked = "twomoon mfh-gamma mfh-alpha mfh-general lopez-paz lopez-paz-mnist hinton-mnist av-digits fusion enrichment"
    assert set(FILES) == set(asked.split())


@pytest.mark.parametrize("name", FILES)
def test_members_give_the_columns_of_the_table(name):
    file, seen = loaded(name), set()
    table = file.table.quick if name in REDUCED else file.table
    assert isinstance(table, Table)
    spec, seed = shared_spec(name, file), jax.ShapeDtypeStruct((), np.int32)
    programs = {}
    for arguments in table.rows.values():  # rows that share a program are traced once
        programs[repr({k: v for k, v in arguments.items() if k in table.static})] = arguments
    for arguments in list(programs.values())[:: 1 if len(programs) < 7 else 3]:
        fixed = {k: v for k, v in arguments.items() if k in table.static}
        free = {k: jax.ShapeDtypeStruct((), np.asarray(v).dtype) for k, v in arguments.items() if k not in fixed}
        member = partial(_member, table.member, fixed)
        found = jax.eval_shape(member, spec, seed, free)
        assert {v.shape for v in found.values()} == {()}
        seen |= set(found)
    assert seen <= set(table.columns)


def av_digits_rows() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "audio": draw.integers(0, 40, (900, 32, 32)).astype(np.uint8),
        "image": draw.integers(0, 255, (900, 28, 28, 1)).astype(np.uint8),
        "label": (np.arange(900) % 10).astype(np.int32),
        "example_id": np.arange(900, dtype=np.int32),
    }


def test_labels_of_a_situation_are_as_many_and_as_wrong_as_it_says():
    file = loaded("av-digits")
    held, right = {"train": av_digits_rows()}, av_digits_rows()["label"]
    for situation, (labelled, wrong) in enumerate(((500, 0), (900, 0.4 * 0.9), (900, 0))):
        rows, pool, count = file.labels(held, jax.random.key(1), np.int32(situation))
        assert int(rows["labelled"].sum()) == labelled == int(count)
        assert np.asarray(rows["labelled"])[np.asarray(pool)[:labelled]].all()
        assert np.mean(np.asarray(rows["label"]) != right) == pytest.approx(wrong, abs=0.05)


def test_labels_that_a_situation_lacks_change_nothing():
    file, rows = loaded("av-digits"), av_digits_rows()
    student = file.STUDENTS["sees"]
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    rows["teacher.logits"] = np.random.default_rng(1).normal(size=(900, 10)).astype(np.float32)
    models = {"teacher": mmkd.cached("teacher"), "student": student}

    @jax.jit
    def learned(rows):
        return file.fit({"train": rows}, 3, 0, 20, models, combine(task=file.task, soft=soft), 3e-3)

    own = jax.random.split(jax.random.fold_in(jax.random.key(3), 0))[0]
    few = np.asarray(file.labels({"train": rows}, own, 0)[0]["labelled"])
    assert few.sum() == 500
    before = learned(rows)
    after = learned(rows | {"label": np.where(few, rows["label"], 9).astype(np.int32)})
    other = learned(rows | {"label": np.where(few, 9, rows["label"]).astype(np.int32)})
    same = [bool(jnp.array_equal(a, b)) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert all(same)
    assert not jnp.array_equal(jax.tree.leaves(before)[-1], jax.tree.leaves(other)[-1])


@pytest.mark.full
def test_students_and_teachers_of_all_fusions_have_equally_many_parameters():
    file = loaded("fusion")
    assert set(file.FUSIONS) == set(file.WIDTHS)
    for name, widths in file.WIDTHS.items():
        quadratic = name in ("TensorFusion", "Multiplicative")
        for size, budget in file.BUDGET.items():
            assert file.parameters(name, size, widths[size]) == pytest.approx(budget, rel=0.1 if quadratic else 0.03)


def test_students_with_and_without_enrichment_have_equally_many_parameters():
    file = loaded("enrichment")
    for subset, kinds in file.SIZES.items():
        for kind, sizes in kinds.items():
            assert file.parameters(kind, subset, sizes) == pytest.approx(file.BUDGET[subset], rel=0.01)


def test_a_student_in_use_reads_nothing_of_the_other_modality():
    file, rows = loaded("enrichment"), {k: v[:4] for k, v in av_digits_rows().items()}
    model = file.student("mixer", "hears", (4, 4))
    variables = model.init(jax.random.key(0), rows)
    absent, other = rows | {"present.image": np.zeros(4, bool)}, 255 - rows["image"]
    first, again = (mmkd.predict(model, variables, x)["logits"] for x in (absent, absent | {"image": other}))
    assert jnp.array_equal(first, again)
