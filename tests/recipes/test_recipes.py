"""Each recipe runs from end to end on made-up rows, and does what it is there for."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, recipes
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.state import init_state
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, runner, saved
from mmkd_jax.training import compiled, loop
from tests.setting import setting
from tests.small import CLASSES, applied, equal, gap

SETTING = setting(4, optax.adam(1e-2), save_every=2)
UNLABELLED = data.InMemory(SETTING.all_data.dataset.where("labelled", False), 12)
CHAIN = dataclasses.replace(SETTING, sizes=("large", "middle", "small"))
ALL = {
    **recipes.md(SETTING),
    **recipes.privileged_modalities(SETTING),
    **recipes.missing_modalities(SETTING, missing=0.5),
    **recipes.mtsd(SETTING),
    **recipes.cross_modal_transfer(SETTING),
    **recipes.hallucination(SETTING),
    **recipes.born_again(SETTING, generations=2),
    **recipes.label_free(SETTING, UNLABELLED),
    **recipes.teacher_assistant(CHAIN),
    **recipes.staged_hints(SETTING, share=0.5),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 1


def as_experiment(trainings):
    return definition.Experiment("recipes", Config(), lambda config: trainings, None, None, "")


QUIET = runner.Callbacks(log=lambda line: None)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All recipes in one folder: what the trainings ended with."""
    folder = tmp_path_factory.mktemp("recipes") / "run"
    results = runner.run(as_experiment(ALL), Config(), options=runner.RunOptions(out=folder), callbacks=QUIET)
    ended = {n: saved.load_variables(folder, p, n, 0) for n, p in ALL.items()}
    return results, ended


def begun(name, given, seed=0):
    """Variables before the first step, as `train.fit` has them."""
    return compiled.compile_training(ALL[name]).start(jax.random.key(seed), given, {})


def answers(name, variables, train=False, **changed):
    batch = {k: jnp.asarray(v) for k, v in next(iter(SETTING.test.eval_batches())).items()}
    batch |= {k: jnp.full_like(batch[k], v) for k, v in changed.items()}
    training = ALL[name]
    ctx = StepContext(0, jax.random.key(0), train)
    return applied(training.networks[training.evaluate], variables[training.evaluate], batch, ctx)[0]


@pytest.mark.slow
def test_every_part_is_run_and_what_is_cached_is_no_part_of_the_state(ran):
    results, ended = ran
    assert set(results) == set(ALL) and all(np.isfinite(r[0]["accuracy"]) for r in results.values())
    assert all(set(own) == {ALL[n].evaluate} for n, own in ended.items())


STUDENTS = [
    "privileged_modalities",
    "missing_modalities",
    "cross_modal_transfer",
    "hallucination",
    "label_free",
    "teacher_assistant",
]
STUDENTS += ["born_again_2", "staged_hints_2"]


@pytest.mark.full
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "privileged_modalities" else []) for n in STUDENTS]
)
def test_in_use_the_student_never_reads_what_it_lacks(ran, name):
    own = ran[1][name]
    np.testing.assert_array_equal(
        answers(name, own)["logits"], answers(name, own, image=np.nan)["logits"], err_msg="the image changes something"
    )
    assert gap(answers(name, own)["logits"], answers(name, own, audio=0.0)["logits"]) > 1e-6


@pytest.mark.full
@pytest.mark.parametrize("name", ["md", "mtsd"])
def test_of_md_and_mtsd_both_sides_see_all(ran, name):
    own = ran[1][name]
    for m in ("image", "audio"):
        assert gap(answers(name, own)["logits"], answers(name, own, **{m: 0.0})["logits"]) > 1e-6


@pytest.mark.full
def test_mtsd_without_weight_is_md_and_with_it_has_a_term_for_every_feature(ran, tmp_path):
    without = recipes.mtsd(SETTING, weight=0.0)
    runner.run(as_experiment(without), Config(), options=runner.RunOptions(out=tmp_path / "run"), callbacks=QUIET)
    ended = saved.load_variables(tmp_path / "run", without["mtsd"], "mtsd", 0)
    assert gap(ended["student"], ran[1]["md"]["student"]) < 1e-6
    assert gap(ran[1]["mtsd"]["student"], ran[1]["md"]["student"]) > 1e-4
    rows = ran[0]["mtsd"][0]["history"]
    for name in ("fused", "image", "audio"):
        assert all(np.isfinite(row[f"term {name}"]) and row[f"term {name}"] > 0 for row in rows), name


@pytest.mark.full
def test_the_missing_modality_is_present_on_some_training_rows(ran):
    own = ran[1]["missing_modalities"]
    changed = np.any(
        answers("missing_modalities", own, train=True)["logits"]
        != answers("missing_modalities", own, True, image=0.0)["logits"],
        -1,
    )
    assert 0.2 < changed.mean() < 0.8


@pytest.mark.full
def test_the_teacher_of_a_transfer_sees_the_other_modality_alone(ran):
    own = ran[1]["image_teacher"]
    np.testing.assert_array_equal(
        answers("image_teacher", own)["logits"], answers("image_teacher", own, audio=np.nan)["logits"]
    )


@pytest.mark.full
def test_each_generation_is_taught_by_the_one_before(ran):
    three = recipes.born_again(SETTING)
    assert [p.init_from.get("teacher") for p in three.values()] == [
        None,
        "born_again_1.student",
        "born_again_2.student",
    ]
    # not cached, the taken variables stand in the training itself: bit for bit those that generation 1 ended with
    first = ran[1]["born_again_1"]["student"]
    training = recipes.born_again(dataclasses.replace(SETTING, cached=False), generations=2)["born_again_2"]
    program = compiled.compile_training(training)
    state, frozen = program.start(jax.random.key(0), {"teacher": first}, {})
    assert equal(frozen["teacher"], first) and not equal(state.params["student"], first["params"])
    before = jax.tree.map(np.array, state.params["student"])
    batch = {k: jnp.asarray(v) for k, v in next(iter(training.data.eval_batches())).items() if k != "valid"}
    state, _ = program.step(state, frozen, batch)
    assert equal(frozen["teacher"], first) and not equal(state.params["student"], before)


@pytest.mark.slow
def test_a_teacher_that_runs_stays_as_it_was_and_teaches_as_a_cached_one(tmp_path, ran):
    trainings = recipes.privileged_modalities(dataclasses.replace(SETTING, cached=False))
    runner.run(as_experiment(trainings), Config(), options=runner.RunOptions(out=tmp_path / "run"), callbacks=QUIET)
    ended = {n: saved.load_variables(tmp_path / "run", p, n, 0) for n, p in trainings.items()}
    name = "image_audio_teacher"  # read again after the student was trained, against its hash
    assert equal(ended[name]["teacher"], ran[1][name]["teacher"])
    assert gap(ended["privileged_modalities"]["student"], ran[1]["privileged_modalities"]["student"]) < 1e-5


def batch_of(training, name, variables):
    """A training batch with what the cached teacher says of it."""
    batch = {k: jnp.asarray(v) for k, v in next(iter(training.data.eval_batches())).items() if k != "valid"}
    if "teacher" in training.cache:
        out = applied(training.networks["teacher"], variables, batch, StepContext(0, jax.random.key(0), False))[0]
        batch |= {f"teacher.{k}": out[k] for k in training.cache["teacher"].outputs}
    return batch


def slope(name, teacher, drop=()):
    """What one step does to the student, by plain descent, and the terms."""
    training = dataclasses.replace(ALL[name], optimizer=optax.sgd(1.0))
    state, frozen = jax.jit(lambda key: init_state(training.distillation, training.spec, key))(jax.random.key(0))
    batch = batch_of(training, name, teacher)
    after, metrics = compiled.compile_training(training).step(jax.tree.map(jnp.copy, state), frozen, batch)
    return jax.tree.map(jnp.subtract, state.params["student"], after.params["student"]), metrics["terms"]


@pytest.mark.slow
def test_the_imagining_branch_and_only_it_follows_the_features(ran):
    teacher = ran[1]["image_teacher"]["teacher"]
    other = jax.tree.map(lambda x: x + 0.5, teacher)
    one, terms = slope("hallucination", teacher)
    two, _ = slope("hallucination", other)
    assert set(terms) == {"task", "seen", "imagined", "audio_as_image"}
    assert equal(one["seen"], two["seen"]) and gap(one["imagined"], two["imagined"]) > 1e-4


@pytest.mark.full
def test_the_hint_leaves_what_lies_above_it_and_the_second_stage_goes_on_from_there(ran):
    hinted, _ = slope("staged_hints_1", ran[1]["image_audio_teacher"]["teacher"])
    assert not np.any(hinted["Classifier_0"]["Dense_0"]["kernel"]) and np.any(hinted["Dense_0"]["kernel"])
    results, ended = ran
    assert results["staged_hints_1"][0]["best_step"] == 2 == ALL["staged_hints_1"].steps
    state, _ = begun("staged_hints_2", {"student": ended["staged_hints_1"]["student"]})
    assert equal(state.params["student"], ended["staged_hints_1"]["student"]["params"])
    assert ALL["staged_hints_1"].steps + ALL["staged_hints_2"].steps == SETTING.steps


@pytest.mark.full
def test_no_label_is_read_by_a_label_free_student(ran):
    training = ALL["label_free"]
    assert (
        training.select == "last" and not np.any(training.data.dataset.columns["labelled"]) and training.data.size == 36
    )
    teacher = ran[1]["image_audio_teacher"]["teacher"]
    batch = batch_of(training, "label_free", teacher)
    program = compiled.compile_training(training)
    steps = []
    for labels in (batch["label"], (batch["label"] + 1) % CLASSES):
        state, frozen = begun("label_free", {})
        steps.append(program.step(state, frozen, batch | {"label": labels})[0].params)
    assert equal(*steps)
    assert ran[0]["label_free"][0]["best_step"] == SETTING.steps


def test_a_chain_goes_down_by_one_size_each():
    chain = recipes.teacher_assistant(CHAIN)
    widths = {n: p.outputs(p.evaluate)["embedding"].shape[-1] for n, p in chain.items()}
    assert (widths["image_audio_teacher"], widths["assistant_middle"], widths["teacher_assistant"]) == (8, 6, 4)
    assert ALL["assistant_middle"].init_from == {"teacher": "image_audio_teacher.teacher"}
    assert ALL["teacher_assistant"].init_from == {"teacher": "assistant_middle.student"}


@pytest.mark.full
def test_interrupted_between_and_within_stages_and_resumed(tmp_path, ran):
    trainings = recipes.staged_hints(SETTING, share=0.5)
    for stops in (1, 2, 3):
        asked = []
        watch = runner.Callbacks(
            log=lambda line: None, should_stop=lambda asked=asked, n=stops: asked.append(1) or len(asked) >= n
        )
        with pytest.raises(loop.Interrupted):
            runner.run(
                as_experiment(trainings), Config(), options=runner.RunOptions(out=tmp_path / "run"), callbacks=watch
            )
    results = runner.run(
        as_experiment(trainings), Config(), options=runner.RunOptions(out=tmp_path / "run"), callbacks=QUIET
    )
    for name in trainings:
        assert results[name][0]["variables"] == ran[0][name][0]["variables"], name  # hashes: bit for bit


@pytest.mark.slow
def test_streamed_rows_teach_as_those_in_memory(tmp_path, ran):
    readers: dict[str, Any] = {
        n: data.GrainLoader(getattr(SETTING, n).dataset, 12) for n in ("labeled_data", "all_data")
    }
    trainings = recipes.privileged_modalities(dataclasses.replace(SETTING, **readers))
    results = runner.run(
        as_experiment(trainings), Config(), options=runner.RunOptions(out=tmp_path / "run"), callbacks=QUIET
    )
    for name in trainings:
        assert [h["loss"] for h in results[name][0]["history"]] == pytest.approx(
            [h["loss"] for h in ran[0][name][0]["history"]], rel=1e-6
        )


def test_bad_settings_are_refused():
    everything = dataclasses.replace(SETTING, seen=("image", "audio"))
    for recipe in (
        recipes.privileged_modalities,
        recipes.missing_modalities,
        recipes.cross_modal_transfer,
        recipes.hallucination,
    ):
        with pytest.raises(UserError, match="the student sees all modalities"):
            recipe(everything)
    for match, make in {
        "expected at least the teacher's and the student's": lambda: dataclasses.replace(SETTING, sizes=("one",)),
        "seen are touch": lambda: dataclasses.replace(SETTING, seen=("touch",)),
        "generations is 1": lambda: recipes.born_again(SETTING, generations=1),
        "expected an intermediate size": lambda: recipes.teacher_assistant(SETTING),
        "gives the first stage 0 of 4": lambda: recipes.staged_hints(SETTING, share=0.0),
        "rate must be between 0 and 1": lambda: recipes.missing_modalities(SETTING, missing=2.0),
    }.items():
        with pytest.raises(UserError, match=match):
            make()
