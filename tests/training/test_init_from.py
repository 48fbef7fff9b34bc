"""Variables from outside an experiment: what begins with them, what is computed once, what they are known by."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses, pretrained
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import description, runner, saved
from mmkd_jax.experiment.definition import Experiment, check
from mmkd_jax.models import Bert, Encoders, Multimodal, TransformerConfig
from mmkd_jax.tasks import classification
from mmkd_jax.training import compiled
from mmkd_jax.training import training as part
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.small import equal, with_role

BERT = Bert(9, TransformerConfig(embed_dim=4, num_layers=1, num_heads=2, mlp_dim=6), length=5)
QUIET = runner.Callbacks(log=lambda line: None)


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
    reader = data.InMemory(rows, 6)
    variables = jax.tree.map(lambda x: x * np.float32(scale), loaded.variables)
    loaded = loaded._replace(variables=variables)
    student = linen(Multimodal(loaded.module.encoders, 3, 4))
    one = Training(
        models={
            "student": Trained(student, init_from=pretrained.init_from(loaded)),
            "teacher": Frozen(
                linen(loaded.module),
                init_from=PretrainedVariables(loaded.variables, ("a small BERT",)),
                cache=("features.text",) if cached else None,
            ),
        },
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
    )
    return Experiment("given", Config(), lambda config: {"one": one}, None, None, "")


def run(folder, made, **how):
    return runner.run(made, made.config, options=runner.RunOptions(folder, **how), callbacks=QUIET)


@pytest.mark.slow
def test_models_begin_with_them_and_a_frozen_one_is_run_once(loaded, tmp_path):
    still = run(tmp_path / "still", experiment(loaded, rate=0.0))["one"][0]
    training = experiment(loaded).trainings(Config())["one"]
    ended = saved.load_variables(tmp_path / "still", training, "one", 0)
    text = ended["student"]["params"]["encoders_text"]
    assert equal(text, loaded.variables["params"]["encoders_text"])
    assert still["history"][0]["term hint"] < 1e-9
    cached, online = (run(tmp_path / str(c), experiment(loaded, cached=c))["one"][0] for c in (True, False))
    for one, other in zip(cached["history"], online["history"], strict=True):
        assert one["term hint"] == pytest.approx(other["term hint"], rel=1e-5) and one["loss"] != still["history"][0]


def test_they_are_arguments_of_a_program_not_its_constants(loaded, monkeypatch):
    program, starts, traces = None, [], []
    initialize = part.init_state
    monkeypatch.setattr(part, "init_state", lambda *given: traces.append(1) or initialize(*given))
    for scale in (1.0, 2.0):
        training = experiment(loaded, scale=scale).trainings(Config())["one"]
        program = program or compiled.compile_training(training)
        sources: dict[str, Any] = training.init_from
        given = {n: g.variables for n, g in sources.items() if n not in training.cache}
        starts.append(program.start(jax.random.key(0), given, {})[0].params["student"]["encoders_text"])
    assert len(traces) == 1
    assert equal(starts[1], jax.tree.map(lambda x: 2 * x, starts[0]))


@pytest.mark.slow
def test_results_of_other_weights_are_not_taken(loaded, tmp_path):
    first = run(tmp_path, experiment(loaded))
    again = run(tmp_path, experiment(loaded))
    assert again == first
    with pytest.raises(
        UserError, match=r"init_from student.params.encoders_text: it has other variables; init_from teacher: it has"
    ):
        run(tmp_path, experiment(loaded, scale=2.0))
    assert run(tmp_path, experiment(loaded, scale=2.0), allow_changed_sources=True) == first


@pytest.mark.slow
def test_explain_says_where_they_come_from_and_wrong_shapes_are_refused(loaded):
    trainings = experiment(loaded).trainings(Config())
    check(trainings, {})
    told = description.text(trainings)
    assert "trained, params.encoders_text from a pretrained bert" in told and "from a small BERT" in told
    wrong = {"params.encoders_text": PretrainedVariables({"tokens": np.zeros(3, np.float32)})}
    training = with_role(trainings["one"], "student", init_from=wrong)
    with pytest.raises(
        UserError, match="training 'one': variables given for .*student.params.encoders_text.* have shapes"
    ):
        check({"one": training}, {})


@pytest.mark.slow
def test_a_cached_model_of_the_same_weights_that_computes_something_else_has_records_of_its_own(loaded, tmp_path):
    other = loaded._replace(
        module=Encoders({"text": BERT.clone(config=dataclasses.replace(BERT.config, activation="relu"))})
    )
    hints = []
    for one in (loaded, other):
        made = experiment(one)
        shared = run(tmp_path / made.name / str(len(hints)), made, cache=tmp_path / "cache")["one"][0]
        alone = run(tmp_path / "online" / str(len(hints)), experiment(one, cached=False))["one"][0]
        hints.append(shared["history"][0]["term hint"])
        assert hints[-1] == pytest.approx(alone["history"][0]["term hint"], rel=1e-5)
    assert hints[0] != hints[1]


def test_names_in_vain_are_refused(loaded):
    training = experiment(loaded, cached=False).trainings(Config())["one"]
    with pytest.raises(UserError, match="Trained: layers requires init_from to name a model"):
        with_role(training, "student", layers=lambda own, given: own)
    table = {"params": {"encoders_text": {"tokens": {"embedding": np.zeros((9, 3), np.float32)}}}}
    for cache in (None, ("features.text",)):
        wrong = with_role(training, "teacher", init_from=PretrainedVariables(table), cache=cache)
        with pytest.raises(
            UserError, match=r"init_from\['teacher'\] has the variables of another model: .* has nothing, expec"
        ):
            check({"one": wrong}, {})
    with pytest.raises(UserError, match="encoders_text is given twice"):
        pretrained.init_from(loaded, loaded)
    dotted = with_role(training, "teacher", init_from=pretrained.init_from(loaded), cache=("features.text",))
    with pytest.raises(UserError, match="cached model teacher needs init_from for all its variables"):
        check({"one": dotted}, {})
