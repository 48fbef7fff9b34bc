"""Each recipe runs from end to end on made-up rows, and does what it is there for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, experiment, programs, recipes, runner, train
from mmkd_jax.errors import UserError
from mmkd_jax.state import start
from mmkd_jax.views import Context
from tests.setting import setting
from tests.small import CLASSES, equal, gap

SETTING = setting(4, optax.adam(1e-2), save_every=2)
UNLABELLED = data.Memory(SETTING.every.dataset.where("labelled", False), 12)
CHAIN = dataclasses.replace(SETTING, sizes=("large", "middle", "small"))
ALL = {
    **recipes.md(SETTING),
    **recipes.mtsd(SETTING),
    **recipes.mtsd(SETTING, missing=0.5),
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


def as_experiment(parts):
    return experiment.Experiment("recipes", Config(), lambda config: parts, None, None, "")


QUIET = runner.Observer(say=lambda line: None)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All recipes in one folder: what the parts ended with."""
    folder = tmp_path_factory.mktemp("recipes") / "run"
    results = runner.run(as_experiment(ALL), Config(), out=folder, observer=QUIET)
    ended = {n: runner.finished(folder, p, n, 0, results[n][0]["variables"]) for n, p in ALL.items()}
    return results, ended


def begun(name, given, seed=0):
    """Variables before the first step, as `train.fit` has them."""
    return programs.compile_part(ALL[name]).start(jax.random.key(seed), given, {})


def answers(name, variables, train=False, **changed):
    batch = {k: jnp.asarray(v) for k, v in next(iter(SETTING.test.once())).items()}
    batch |= {k: jnp.full_like(batch[k], v) for k, v in changed.items()}
    part = ALL[name]
    ctx = Context(0, jax.random.key(0), train)
    return part.models[part.measured].apply(variables[part.measured], batch, ctx, {})[0]


def test_every_part_is_run_and_what_is_cached_is_no_part_of_the_state(ran):
    results, ended = ran
    assert set(results) == set(ALL) and all(np.isfinite(r[0]["accuracy"]) for r in results.values())
    assert all(set(own) == {ALL[n].measured} for n, own in ended.items())


STUDENTS = ["mtsd", "mtsd_missing", "cross_modal_transfer", "hallucination", "label_free", "teacher_assistant"]
STUDENTS += ["born_again_2", "staged_hints_2"]


@pytest.mark.parametrize("name", STUDENTS)
def test_in_use_the_student_never_reads_what_it_lacks(ran, name):
    own = ran[1][name]
    np.testing.assert_array_equal(
        answers(name, own)["logits"], answers(name, own, image=np.nan)["logits"], err_msg="the image changes something"
    )
    assert gap(answers(name, own)["logits"], answers(name, own, audio=0.0)["logits"]) > 1e-6


def test_of_md_both_sides_see_all(ran):
    own = ran[1]["md"]
    assert all(
        gap(answers("md", own)["logits"], answers("md", own, **{m: 0.0})["logits"]) > 1e-6 for m in ("image", "audio")
    )


def test_the_missing_modality_is_there_on_some_rows_of_the_training(ran):
    own = ran[1]["mtsd_missing"]
    changed = np.any(
        answers("mtsd_missing", own, train=True)["logits"] != answers("mtsd_missing", own, True, image=0.0)["logits"],
        -1,
    )
    assert 0.2 < changed.mean() < 0.8


def test_the_teacher_of_a_transfer_sees_the_other_modality_alone(ran):
    own = ran[1]["image_teacher"]
    np.testing.assert_array_equal(
        answers("image_teacher", own)["logits"], answers("image_teacher", own, audio=np.nan)["logits"]
    )


def test_each_generation_is_taught_by_the_one_before(ran):
    three = recipes.born_again(SETTING)
    assert [p.take.get("teacher") for p in three.values()] == [None, "born_again_1.student", "born_again_2.student"]
    # not cached, the taken variables stand in the part itself: bit for bit those that generation 1 ended with
    first = ran[1]["born_again_1"]["student"]
    part = recipes.born_again(dataclasses.replace(SETTING, cached=False), generations=2)["born_again_2"]
    program = programs.compile_part(part)
    state, frozen = program.start(jax.random.key(0), {"teacher": first}, {})
    assert equal(frozen["teacher"], first) and not equal(state.params["student"], first["params"])
    before = jax.tree.map(np.array, state.params["student"])
    batch = {k: jnp.asarray(v) for k, v in next(iter(part.data.once())).items() if k != "valid"}
    state, _ = program.step(state, frozen, batch)
    assert equal(frozen["teacher"], first) and not equal(state.params["student"], before)


def test_a_teacher_that_runs_stays_as_it_was_and_teaches_as_a_cached_one(tmp_path, ran):
    parts = recipes.mtsd(dataclasses.replace(SETTING, cached=False))
    results = runner.run(as_experiment(parts), Config(), out=tmp_path / "run", observer=QUIET)
    ended = {n: runner.finished(tmp_path / "run", p, n, 0, results[n][0]["variables"]) for n, p in parts.items()}
    name = "image_audio_teacher"  # read again after the student was trained, against its hash
    assert equal(ended[name]["teacher"], ran[1][name]["teacher"])
    assert gap(ended["mtsd"]["student"], ran[1]["mtsd"]["student"]) < 1e-5


def batch_of(part, name, variables):
    """A training batch with what the cached teacher says of it."""
    batch = {k: jnp.asarray(v) for k, v in next(iter(part.data.once())).items() if k != "valid"}
    if "teacher" in part.cache:
        out = part.models["teacher"].apply(variables, batch, Context(0, jax.random.key(0), False), {})[0]
        batch |= {f"teacher.{k}": out[k] for k in part.cache["teacher"]}
    return batch


def slope(name, teacher, drop=()):
    """What one step does to the student, by plain descent, and the terms."""
    part = dataclasses.replace(ALL[name], optimizer=optax.sgd(1.0))
    state, frozen = jax.jit(lambda key: start(part.distillation, part.spec, key))(jax.random.key(0))
    batch = batch_of(part, name, teacher)
    after, metrics = programs.compile_part(part).step(jax.tree.map(jnp.copy, state), frozen, batch)
    return jax.tree.map(jnp.subtract, state.params["student"], after.params["student"]), metrics["terms"]


def test_the_imagining_branch_and_only_it_follows_the_features(ran):
    teacher = ran[1]["image_teacher"]["teacher"]
    other = jax.tree.map(lambda x: x + 0.5, teacher)
    one, terms = slope("hallucination", teacher)
    two, _ = slope("hallucination", other)
    assert set(terms) == {"task", "seen", "imagined", "audio_as_image"}
    assert equal(one["seen"], two["seen"]) and gap(one["imagined"], two["imagined"]) > 1e-4


def test_the_hint_leaves_what_lies_above_it_and_the_second_stage_goes_on_from_there(ran):
    hinted, _ = slope("staged_hints_1", ran[1]["image_audio_teacher"]["teacher"])
    assert not np.any(hinted["Classifier_0"]["Dense_0"]["kernel"]) and np.any(hinted["Dense_0"]["kernel"])
    results, ended = ran
    assert results["staged_hints_1"][0]["best_step"] == 2 == ALL["staged_hints_1"].steps
    state, _ = begun("staged_hints_2", {"student": ended["staged_hints_1"]["student"]})
    assert equal(state.params["student"], ended["staged_hints_1"]["student"]["params"])
    assert ALL["staged_hints_1"].steps + ALL["staged_hints_2"].steps == SETTING.steps


def test_no_label_is_read_by_a_label_free_student(ran):
    part = ALL["label_free"]
    assert part.keep == "last" and not np.any(part.data.dataset.columns["labelled"]) and part.data.size == 36
    teacher = ran[1]["image_audio_teacher"]["teacher"]
    batch = batch_of(part, "label_free", teacher)
    program = programs.compile_part(part)
    steps = []
    for labels in (batch["label"], (batch["label"] + 1) % CLASSES):
        state, frozen = begun("label_free", {})
        steps.append(program.step(state, frozen, batch | {"label": labels})[0].params)
    assert equal(*steps)
    assert ran[0]["label_free"][0]["best_step"] == SETTING.steps


def test_a_chain_goes_down_by_one_size_each():
    chain = recipes.teacher_assistant(CHAIN)
    widths = {n: p.outputs(p.measured)["embedding"].shape[-1] for n, p in chain.items()}
    assert (widths["image_audio_teacher"], widths["assistant_middle"], widths["teacher_assistant"]) == (8, 6, 4)
    assert ALL["assistant_middle"].take == {"teacher": "image_audio_teacher.teacher"}
    assert ALL["teacher_assistant"].take == {"teacher": "assistant_middle.student"}


def test_interrupted_between_and_within_stages_and_resumed(tmp_path, ran):
    parts = recipes.staged_hints(SETTING, share=0.5)
    for stops in (1, 2, 3):
        asked = []
        watch = runner.Observer(
            say=lambda line: None, stop=lambda asked=asked, n=stops: asked.append(1) or len(asked) >= n
        )
        with pytest.raises(train.Interrupted):
            runner.run(as_experiment(parts), Config(), out=tmp_path / "run", observer=watch)
    results = runner.run(as_experiment(parts), Config(), out=tmp_path / "run", observer=QUIET)
    for name in parts:
        assert results[name][0]["variables"] == ran[0][name][0]["variables"], name  # hashes: bit for bit


def test_streamed_rows_teach_as_those_in_memory(tmp_path, ran):
    readers = {n: data.Pipeline(getattr(SETTING, n).dataset, 12) for n in ("few", "every")}
    parts = recipes.mtsd(dataclasses.replace(SETTING, **readers))
    results = runner.run(as_experiment(parts), Config(), out=tmp_path / "run", observer=QUIET)
    for name in parts:
        assert [h["loss"] for h in results[name][0]["history"]] == pytest.approx(
            [h["loss"] for h in ran[0][name][0]["history"]], rel=1e-6
        )


def test_bad_settings_are_refused():
    everything = dataclasses.replace(SETTING, seen=("image", "audio"))
    for recipe in (recipes.mtsd, recipes.cross_modal_transfer, recipes.hallucination):
        with pytest.raises(UserError, match="the student sees all modalities"):
            recipe(everything)
    for match, make in {
        "expected the teacher's and the student's": lambda: dataclasses.replace(SETTING, sizes=("one",)),
        "seen are touch": lambda: dataclasses.replace(SETTING, seen=("touch",)),
        "generations is 1": lambda: recipes.born_again(SETTING, generations=1),
        "expected one in between": lambda: recipes.teacher_assistant(SETTING),
        "gives the first stage 0 of 4": lambda: recipes.staged_hints(SETTING, share=0.0),
        "rate must be between 0 and 1": lambda: recipes.mtsd(SETTING, missing=2.0),
    }.items():
        with pytest.raises(UserError, match=match):
            make()
