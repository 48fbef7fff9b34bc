"""Variables from outside an experiment: what begins with them, what is computed once, what they are known by."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data, explain, losses, pretrained, programs, runner
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import Experiment, check
from mmkd_jax.given import Given
from mmkd_jax.models import Bert, Encoders, Multimodal
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen
from tests.small import equal

BERT = Bert(9, width=4, layers=1, heads=2, inner=6, length=5)
QUIET = runner.Observer(say=lambda line: None)


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("bert"), Encoders({"text": BERT})
    pretrained.save(folder, "bert", module, pretrained.initial(module, jax.random.key(3)))
    return pretrained.load(folder)


def experiment(loaded, cached=True, rate=0.1, scale=1.0):
    draw = np.random.default_rng(0)
    columns = {"text.ids": draw.integers(1, 9, (12, 5)).astype(np.int32), "text.mask": np.ones((12, 5), bool)}
    rows = data.from_columns(columns | {"label": (np.arange(12) % 3).astype(np.int32)}, "made-up")
    reader = data.Memory(rows, 6)
    variables = jax.tree.map(lambda x: x * np.float32(scale), loaded.variables)
    loaded = loaded._replace(variables=variables)
    student = linen(Multimodal(loaded.module.encoders, 3, 4))
    one = Part(
        models={"student": student, "teacher": linen(loaded.module)},
        objective=combine(
            task=classification(3).objective(),
            hint=term(losses.mse, predictions="student.features.text", targets="teacher.features.text"),
        ),
        optimizer=optax.sgd(rate),
        task=classification(3),
        data=reader,
        validation=reader,
        test=reader,
        steps=4,
        evaluate_every=2,
        save_every=2,
        take=pretrained.given("student", loaded) | {"teacher": Given(loaded.variables, ("a small BERT",))},
        cache={"teacher": ("features.text",)} if cached else {},
    )
    return Experiment("given", Config(), lambda config: {"one": one}, None, None, "")


def run(folder, made, **how):
    return runner.run(made, made.config, out=folder, observer=QUIET, **how)


def test_models_begin_with_them_and_a_frozen_one_is_run_once(loaded, tmp_path):
    still = run(tmp_path / "still", experiment(loaded, rate=0.0))["one"][0]
    part = experiment(loaded).parts(Config())["one"]
    ended = runner.finished(tmp_path / "still", part, "one", 0, still["variables"])
    text = ended["student"]["params"]["encoders_text"]
    assert equal(text, loaded.variables["params"]["encoders_text"])
    assert still["history"][0]["term hint"] < 1e-9
    cached, online = (run(tmp_path / str(c), experiment(loaded, cached=c))["one"][0] for c in (True, False))
    for one, other in zip(cached["history"], online["history"], strict=True):
        assert one["term hint"] == pytest.approx(other["term hint"], rel=1e-5) and one["loss"] != still["history"][0]


def test_they_are_arguments_of_a_program_not_its_constants(loaded, monkeypatch):
    program, starts, traces = None, [], []
    begin = programs.start
    monkeypatch.setattr(programs, "start", lambda *given: traces.append(1) or begin(*given))
    for scale in (1.0, 2.0):
        part = experiment(loaded, scale=scale).parts(Config())["one"]
        program = program or programs.compile_part(part)
        given = {n: g.variables for n, g in part.take.items() if n not in part.cache}
        starts.append(program.start(jax.random.key(0), given, {})[0].params["student"]["encoders_text"])
    assert len(traces) == 1
    assert equal(starts[1], jax.tree.map(lambda x: 2 * x, starts[0]))


def test_results_of_other_weights_are_not_taken(loaded, tmp_path):
    first = run(tmp_path, experiment(loaded))
    again = run(tmp_path, experiment(loaded))
    assert again == first
    with pytest.raises(
        UserError, match=r"trained with other weights \(take student.params.encoders_text, take teacher"
    ):
        run(tmp_path, experiment(loaded, scale=2.0))
    assert run(tmp_path, experiment(loaded, scale=2.0), allow_changed_data=True) == first


def test_explain_says_where_they_come_from_and_wrong_shapes_are_refused(loaded):
    parts = experiment(loaded).parts(Config())
    check(parts, {})
    told = explain.text(parts)
    assert "trained, params.encoders_text from a pretrained bert" in told and "from a small BERT" in told
    wrong = {"student.params.encoders_text": Given({"tokens": np.zeros(3, np.float32)})}
    part = dataclasses.replace(parts["one"], take=wrong | {"teacher": parts["one"].take["teacher"]})
    with pytest.raises(UserError, match="part 'one': .*student.params.encoders_text.* is given has shapes"):
        check({"one": part}, {})


def test_a_cached_model_of_the_same_weights_that_computes_something_else_has_records_of_its_own(loaded, tmp_path):
    other = loaded._replace(module=Encoders({"text": BERT.clone(activation="relu")}))
    hints = []
    for one in (loaded, other):
        made = experiment(one)
        shared = run(tmp_path / made.name / str(len(hints)), made, cache=tmp_path / "cache")["one"][0]
        alone = run(tmp_path / "online" / str(len(hints)), experiment(one, cached=False))["one"][0]
        hints.append(shared["history"][0]["term hint"])
        assert hints[-1] == pytest.approx(alone["history"][0]["term hint"], rel=1e-5)
    assert hints[0] != hints[1]


def test_names_in_vain_are_refused(loaded):
    part = experiment(loaded, cached=False).parts(Config())["one"]
    for name in ("studnet", "student.params.encoders_text"):
        with pytest.raises(UserError, match=f"inherit names {name}, no model that takes variables"):
            dataclasses.replace(part, inherit={name: lambda own, given: own})
    table = {"params": {"encoders_text": {"tokens": {"embedding": np.zeros((9, 3), np.float32)}}}}
    for cache in ({}, {"teacher": ("features.text",)}):
        wrong = dataclasses.replace(part, take={"teacher": Given(table)}, cache=cache)
        with pytest.raises(
            UserError, match=r"take\['teacher'\] gives variables of another model: .* has nothing, expec"
        ):
            check({"one": wrong}, {})
    with pytest.raises(UserError, match="encoders_text is given twice"):
        pretrained.given("student", loaded, loaded)
    dotted = dataclasses.replace(part, take=pretrained.given("teacher", loaded), cache={"teacher": ("features.text",)})
    with pytest.raises(UserError, match="cache names teacher, which takes no variables as a whole"):
        check({"one": dotted}, {})
