"""PGD and FGSM as values: what they refuse, what they compute, and their hyperparameters in an objective."""

import dataclasses
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmkd_jax as mmkd
from mmkd_jax import methods
from mmkd_jax.adversarial import FGSM, PGD, attacks
from mmkd_jax.core.hyperparams import hyperparams_of, with_hyperparams
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.state import variables
from mmkd_jax.errors import UserError
from tests.small import distil, initialize, make_batch, net, on_device

METHODS = ("ard", "iad", "rslad", "adaad", "trades")
X = jnp.asarray(np.random.default_rng(0).uniform(-0.3, 1.2, (5, 4)).astype(np.float32))


def hill(x):
    return jnp.sum(jnp.sin(3 * x) * x, -1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -0.1}, "PGD: eps is -0.1; expected a number from 0 on"),
        ({"eps": float("nan")}, "PGD: eps is nan; expected a number from 0 on"),
        ({"eps": "8/255"}, "PGD: eps is '8/255' (str); expected a number"),
        ({"step_size": -1}, "PGD: step_size is -1; expected a number from 0 on"),
        ({"steps": 0}, "PGD: steps is 0; expected a whole number, 1 or more"),
        ({"steps": 2.0}, "PGD: steps is 2.0; expected a whole number, 1 or more"),
        ({"norm": "L2"}, "PGD: norm is 'L2'; expected 'linf' or 'l2'"),
        ({"low": 1.0}, "PGD: low is 1.0; expected a number below high, which is 1.0"),
        ({"low": 0, "high": -1}, "PGD: low is 0; expected a number below high, which is -1"),
        ({"high": float("inf")}, "PGD: high is inf; expected a finite number"),
    ],
)
def test_a_value_out_of_range_is_refused_at_once(options, message):
    made = object.__new__(PGD)
    with pytest.raises(UserError) as refused:
        inspect.unwrap(PGD.__init__)(made, **options)  # tests' own type checker would refuse first
    assert str(refused.value) == message


def test_a_value_is_immutable_and_hashable():
    attack = PGD(eps=0.1)
    assert attack == PGD(eps=0.1) != PGD(eps=0.2) and len({attack, PGD(eps=0.1), PGD(eps=0.2)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.eps = 0.2  # pyrefly: ignore
    with pytest.raises(UserError, match="eps is -1"):
        dataclasses.replace(attack, eps=-1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_value_computes_what_the_function_does(norm):
    options = {"eps": 0.3, "step_size": 0.1, "steps": 4, "norm": norm}
    start = 0.1 * jnp.sin(jnp.arange(20.0)).reshape(X.shape)
    bounded, free = PGD(**options), PGD(**options).unbounded()
    np.testing.assert_array_equal(bounded(hill, X), attacks.pgd(hill, X, **options, low=0.0, high=1.0))
    np.testing.assert_array_equal(free(hill, X, start=start), attacks.pgd(hill, X, **options, start=start))
    assert np.abs(bounded(hill, X) - free(hill, X)).max() > 0.01


@pytest.mark.parametrize("bounds", [{"low": None, "high": None}, {"low": 0.0, "high": 0.8}])
def test_fgsm_is_pgd_of_one_step(bounds):
    np.testing.assert_array_equal(FGSM(eps=0.2, **bounds)(hill, X), attacks.fgsm(hill, X, eps=0.2, **bounds))
    with pytest.raises(UserError, match="PGD: eps is -1.0; expected a number from 0 on"):
        FGSM(eps=-1.0, **bounds)
    assert FGSM(eps=0.2, **bounds) == PGD(eps=0.2, step_size=None, steps=1, **bounds)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_published_default(name):
    default = inspect.signature(getattr(methods, name)).parameters["attack"].default
    assert default == PGD(eps=8 / 255, step_size=2 / 255, steps=10, norm="linf", low=0.0, high=1.0)


@pytest.mark.parametrize("name", METHODS)
def test_a_parameter_given_to_a_method_is_referred_to_the_value(name):
    with pytest.raises(TypeError, match=r"has no argument 'eps'; pass attack=PGD\(eps=…\); it has: at, attack"):
        getattr(methods, name)("image", **{"eps": 0.1})
    with pytest.raises(UserError, match=rf"{name}: attack is <function fgsm .*; expected PGD\(…\)"):
        getattr(methods, name)("image", **{"attack": attacks.fgsm})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attack", "values"),
    [(n, PGD(eps=0.2, step_size=0.1, steps=2, low=None, high=None), {"eps": 0.05, "step_size": 0.02}) for n in METHODS]
    + [("rslad", FGSM(eps=0.2, low=None, high=None), {"eps": 0.05})],
)
def test_radius_and_step_size_are_hyperparameters(name, attack, values):
    """Set in the objective state, they give what other values in the file give; the step of FGSM is its radius."""
    models = {"teacher": net(6), "student": net(8)}
    wide, narrow = (
        combine(robust=getattr(methods, name)("image", attack=a))
        for a in (attack, dataclasses.replace(attack, **values))
    )
    batch = make_batch()
    state, frozen = initialize(distil(models, wide), batch)
    outputs, _ = forward(models, variables(state, frozen), on_device(batch), StepContext(0, jax.random.key(1)))

    @jax.jit
    def terms(objective_state):
        return wide.apply(state.params["objective"], objective_state, outputs)[0]

    override = {f"robust.attack.{k}": v for k, v in values.items()}
    assert override.keys() == {k for k in hyperparams_of(state.objective_state) if k.startswith("robust.attack.")}
    overridden = terms(with_hyperparams(state.objective_state, override))
    in_file = terms(narrow.init(outputs)[1])
    for a, b in zip(jax.tree.leaves(overridden), jax.tree.leaves(in_file), strict=True):
        np.testing.assert_array_equal(a, b)
    changed = zip(jax.tree.leaves(overridden), jax.tree.leaves(terms(state.objective_state)), strict=True)
    assert any(not np.array_equal(a, b) for a, b in changed)


EXPERIMENT = """
import dataclasses

import mmkd_jax as mmkd
from tests import tiny_experiment

config, baseline = tiny_experiment.config, None


def trainings(config):
    every = tiny_experiment.trainings(config)
    robust = mmkd.methods.rslad("image", attack=mmkd.adversarial.PGD(eps=0.25, steps=2))
    return every | {"student": dataclasses.replace(every["student"], objective=mmkd.combine(robust=robust))}
"""


def test_the_command_line_sets_them(tmp_path: pathlib.Path, capsys):
    path = tmp_path / "attacked.py"
    path.write_text(EXPERIMENT)
    with pytest.raises(SystemExit):
        mmkd.main(["explain", str(path), "--objective.robust.attack.eps", "0.03"])
    assert "robust.attack.eps 0.03, robust.attack.step_size 0.00784314" in capsys.readouterr().out
    for flag, value, message in [
        ("--objective.robust.attack.eps", "-1", "PGD: eps is -1.0; expected a number from 0 on"),
        ("--objective.robust.eps", "0.03", "student.objective.robust.attack.eps"),
    ]:
        with pytest.raises(SystemExit):
            mmkd.main(["explain", str(path), flag, value])
        assert message in capsys.readouterr().err


def test_an_attacked_output_has_no_bounds():
    """The bounds of a value are those of an input: `robustness` drops them at an output."""
    batch = make_batch()
    student, task = net(8), mmkd.tasks.classification(3)
    given = student.init(jax.random.key(0), on_device(batch))
    box = PGD(eps=2.0, step_size=0.5, steps=3, low=0.4, high=0.6)
    within_bounds, at_an_output, unbounded = (
        float(mmkd.evaluation.robustness(student, task, "embedding", attack)(given, [batch])["accuracy"])
        for attack in (lambda function, x: box(function, x), box, box.unbounded())
    )
    assert at_an_output == unbounded < within_bounds
