"""A small multimodal world for tests: batches, models, and a run of ten steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import with_hyperparams
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.outputs import Outputs, forward
from mmkd_jax.core.sharding import compile_step
from mmkd_jax.core.state import Distillation, init_state
from mmkd_jax.core.step import make_step
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal

CLASSES = 3


def make_batch(seed: int = 0, rows: int = 16) -> dict:
    """Image and audio that tell the class; some rows without audio, some without a label, some padding."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, CLASSES, rows).astype(np.int32)
    return {
        "image": (draw.normal(size=(rows, 2, 3, 1)) + 0.5 * label[:, None, None, None]).astype(np.float32),
        "audio": (draw.normal(size=(rows, 4, 3)) * (1 + label[:, None, None])).astype(np.float32),
        "label": label,
        "labelled": draw.random(rows) < 0.5,
        "present.audio": draw.random(rows) < 0.7,
        "valid": draw.permutation(rows) >= 2 + seed % 3,
        "example_id": draw.permutation(64)[:rows].astype(np.int32),
    }


def on_device(batch: dict) -> dict:
    """For calls outside jit."""
    return {k: jnp.asarray(x) for k, x in batch.items()}


def make_batches(steps: int = 10, rows: int = 16) -> list:
    """One batch a step, each with its own rows and masks."""
    return [make_batch(seed, rows) for seed in range(steps)]


def net(width: int = 8, *seen: str, batch_norm: bool = False, dropout: float = 0.0):
    """A model of the image, or of the modalities that are named."""
    encoders = {"image": ImageMLP((width,)), "audio": AudioTDNN((width,), reach=1)}
    encoders = {m: encoders[m] for m in seen or ("image",)}
    return linen(Multimodal(encoders, classes=CLASSES, width=width, batch_norm=batch_norm, dropout=dropout))


def task(name: str = "student", **more):
    """Cross-entropy of the model's logits."""
    return term(losses.cross_entropy, logits=f"{name}.logits", labels="batch.label", **more)


def soft(student: str = "student", teacher: str = "teacher", **more):
    """KL from the teacher's logits to the student's."""
    return term(losses.kl, student=f"{student}.logits", teacher=f"{teacher}.logits", **more)


def distil(models, objective, *, rate: float = 0.1, **more) -> Distillation:
    """Plain SGD: Adam would hide a gradient of the wrong scale."""
    return Distillation(models, objective, more.pop("optimizer", optax.sgd(rate)), **more)


def initialize(distillation, batch=None, *, seed: int = 0, **more):
    """The first state and the frozen variables, compiled as one program."""
    batch = make_batch() if batch is None else batch
    spec = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in batch.items()}
    return jax.jit(lambda key: init_state(distillation, spec, key, **more))(jax.random.key(seed))


def look(models, variables, batch, ctx, trained=("student",)) -> Outputs:
    """The outputs of `forward`, of all models as one program, and of each that is run again as another.

    Run eagerly, each operation would be compiled once for each shape.
    """

    def by_model(variables, batch):
        return forward(models, variables, batch, ctx, trained)[0].by_model

    def rerun(name):
        def run(shown, patch=None, train=None):
            def once(own, batch, shown, patch):
                outputs = forward({name: models[name]}, {name: own}, batch, ctx, trained)[0]
                return outputs.run[name](shown, patch, *(() if train is None else (train,)))

            return jax.jit(once)(variables[name], batch, shown, patch or {})

        return run

    return Outputs(batch, jax.jit(by_model)(variables, batch), {n: rerun(n) for n in models}, ctx)


def applied(model, variables, batch, ctx, patch=None):
    """`model.apply` as one program."""
    return jax.jit(lambda v, b, p: model.apply(v, b, ctx, p))(variables, batch, patch or {})


def compiled(method) -> Objective:
    """The method with its `init` and its `apply` as one program each; for outputs of `look` and alike."""

    def parts(outputs):
        return (outputs.batch, outputs.by_model), lambda x: dataclasses.replace(outputs, batch=x[0], by_model=x[1])

    def init(outputs):
        arrays, whole = parts(outputs)
        return jax.jit(lambda x: method.init(whole(x)))(arrays)

    def apply(params, state, outputs):
        arrays, whole = parts(outputs)
        return jax.jit(lambda p, s, x: method.apply(p, s, whole(x)))(params, state, arrays)

    return Objective(init, apply)


def set_hyperparams(state, values):
    """The state with some numbers of the objective set: nothing is compiled anew."""
    return state.replace(objective_state=with_hyperparams(state.objective_state, values))


def stepper(distillation, microbatches: int = 1):
    """The compiled step; the state that goes in stays usable."""
    return compile_step(make_step(distillation, microbatches), donate=False)


def advance(step, state, frozen, batches):
    """Go through the batches: the last state, the loss of each step, and each term's mean in each step."""
    values, terms = [], []
    for batch in batches:
        state, metrics = step(state, frozen, batch)
        values.append(metrics["loss"])
        terms.append({k: float(s) / max(float(count), 1.0) for k, (s, count) in metrics["terms"].items()})
    terms = {k: np.array([t[k] for t in terms]) for k in terms[0]}
    return state, np.array([float(v) for v in values]), terms


def with_role(training, name: str, **changes):
    """The training with some fields of a model's role changed."""
    role = dataclasses.replace(training.models[name], **changes)
    return dataclasses.replace(training, models={**training.models, name: role})


def equal(a, b) -> bool:
    """Bit for bit, over all leaves."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def gap(a, b) -> float:
    """The largest difference over all leaves."""
    return max(
        float(np.max(np.abs(np.asarray(x) - np.asarray(y))))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
