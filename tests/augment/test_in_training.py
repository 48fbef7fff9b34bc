"""Augmentation in a step, in a part and in a run: once for all models, resumed bit for bit, refused where wrong."""

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import augment, data
from mmkd_jax.core.model import plain, with_input
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import description
from mmkd_jax.training import compiled, loop
from mmkd_jax.training.checkpoint import Checkpoints
from tests import tiny_experiment
from tests.augment.cases import CONTEXT
from tests.small import advance, distil, equal, gap, initialize, make_batches, net, soft, stepper, task

MIXED = augment.Compose((augment.images.RandomCrop(1), augment.mixing.Mixup(classes=3)), seed=5)


def with_slots(batch):
    return batch | {"view_index": np.arange(len(batch["example_id"]), dtype=np.int32) % 4}


@pytest.mark.full
def test_all_models_see_one_augmented_batch():
    """Applied by hand to each batch it gives the same steps; without it others."""
    models, objective = {"teacher": net(6), "student": net(4)}, combine(task=task(), soft=soft())
    chain = augment.Compose((augment.images.RandomFlip(), augment.images.Cutout(1)), seed=2)
    days = [with_slots(b) for b in make_batches(4)]
    inside, outside = distil(models, objective, augment=chain), distil(models, objective)
    state, frozen = initialize(inside, days[0])
    assert equal(state.params, initialize(outside, days[0])[0].params)
    by_hand = jax.jit(lambda batch: chain(batch, CONTEXT))
    ends = [
        advance(stepper(inside), state, frozen, days)[0].params,
        advance(stepper(inside, 4), state, frozen, days)[0].params,
        advance(stepper(outside), state, frozen, [by_hand(b) for b in days])[0].params,
        advance(stepper(outside), state, frozen, days)[0].params,
    ]
    assert gap(ends[0], ends[2]) < 1e-6 and gap(ends[0], ends[1]) < 1e-6 and gap(ends[0], ends[3]) > 1e-3


def test_one_models_own_view():
    seen = plain(lambda params, batch: {"image": batch["image"]})
    own = with_input(seen, augment.Compose((augment.images.RandomFlip(1.0),)))
    batch = with_slots(make_batches(1)[0])
    out, _ = own.apply({"params": {}}, batch, CONTEXT, {})
    np.testing.assert_array_equal(out["image"], batch["image"][:, :, ::-1])
    assert own.apply({"params": {}}, batch, CONTEXT._replace(train=False), {})[0]["image"] is batch["image"]


def training(augmented=MIXED, stream=False, **more):
    base = tiny_experiment.trainings(tiny_experiment.Config(steps=10))["teacher"]
    rows, partners = base.data.dataset, data.Partners(("image", "label"), seed=3)
    reader = (data.GrainLoader if stream else data.InMemory)(rows, 16, num_views=2, partners=partners)
    changes: dict[str, Any] = {"data": reader, "augment": augmented, "save_every": 5} | more
    return dataclasses.replace(base, **changes)


def fit(training, folder, **options):
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        return loop.fit(training, compiled.compile_training(training), 0, checkpoints, log=lambda line: None, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(training(), tmp_path_factory.mktemp("whole") / "c")


def interrupted(folder, of=None):
    with pytest.raises(loop.Interrupted, match=r"step \d"):
        fit(of or training(), folder, should_stop=lambda: True)


@pytest.mark.full
def test_ten_steps_resumed_are_the_same_bits(tmp_path, whole):
    interrupted(tmp_path / "c")
    resumed = fit(training(), tmp_path / "c")
    assert resumed.history == whole.history
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)


@pytest.mark.full
def test_both_readers_and_other_seeds(tmp_path, whole):
    streamed = fit(training(stream=True), tmp_path / "s")
    assert gap(streamed.variables, whole.variables) < 1e-5
    other = fit(training(dataclasses.replace(MIXED, seed=6)), tmp_path / "o")
    assert gap(other.variables, whole.variables) > 1e-4


@pytest.mark.full
@pytest.mark.parametrize("what", ["seed", "steps", "version"])
def test_a_changed_augmentation_is_refused_by_name(what, tmp_path, monkeypatch):
    interrupted(tmp_path / "c")
    changed: dict[str, Any] = {"seed": 6, "steps": MIXED.steps[1:]}
    if what == "version":
        monkeypatch.setattr(augment.chain, "VERSION", augment.VERSION + 1)
    now = training(dataclasses.replace(MIXED, **{k: v for k, v in changed.items() if k == what}))
    with pytest.raises(UserError, match=r"augment\..*: .* there, .* now"):
        fit(now, tmp_path / "c")


def test_other_slots_and_partners_are_refused_by_name(tmp_path):
    interrupted(tmp_path / "c")
    reader = training().data
    assert isinstance(reader, data.InMemory)
    others: dict[str, Any] = {"num_views": 3, "partners": data.Partners(("image", "label"), seed=4)}
    for field, value in others.items():
        with pytest.raises(UserError, match=f"data.{field}: .* there, .* now"):
            fit(training(data=dataclasses.replace(reader, **{field: value})), tmp_path / "c")


def test_a_cache_needs_a_number_of_slots():
    base = tiny_experiment.trainings(tiny_experiment.Config(cached=True))["student"]
    with pytest.raises(UserError, match="cache stores outputs of teacher.*num_views=16, or remove cache"):
        dataclasses.replace(base, augment=MIXED)
    assert isinstance(base.data, data.InMemory)
    dataclasses.replace(base, data=dataclasses.replace(base.data, num_views=2), augment=MIXED)


def test_part_is_checked_and_explained_on_what_models_see():
    assert training().spec["label"].shape == (16,) and "logits" in training().outputs("teacher")
    training().abstract()
    assert "logits" in description.describe(training()).models["teacher"][2]
    assert training(None).augment_fingerprint is None
    assert training().augment_fingerprint["version"] == augment.VERSION
    odd = training(augment.Compose((augment.images.RandomFlip(modality="images"),)))
    with pytest.raises(UserError, match="needs 'images', missing from the batch; available: .*image"):
        odd.abstract()


@dataclasses.dataclass
class Melting:
    """No frozen dataclass."""

    def __call__(self, batch, keys):
        return batch


def test_what_is_no_step_or_no_batch_is_refused():
    wrong: list[Any] = [lambda batch, keys: batch, augment.images.RandomFlip, Melting()]
    for step in wrong:
        with pytest.raises(UserError, match="frozen dataclass"):
            augment.Compose((step,))
    with pytest.raises(UserError, match="needs the batch column view"):
        MIXED(make_batches(1)[0], CONTEXT)


def test_a_step_of_ones_own():
    chain = augment.Compose((Darker(0.5),))
    out = chain(with_slots(make_batches(1)[0]) | {"image": jnp.ones((16, 2, 3, 1))}, CONTEXT)
    np.testing.assert_array_equal(out["image"], 0.5)
    assert chain.fingerprint == {"seed": 0, "steps": ["Darker(factor=0.5)"], "version": augment.VERSION}


@dataclasses.dataclass(frozen=True)
class Darker:
    """As in the docs."""

    factor: float

    def __call__(self, batch, keys):
        return {**batch, "image": jax.vmap(lambda row: row * self.factor)(batch["image"])}
