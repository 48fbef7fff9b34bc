"""An experiment that defines the class of its model itself: recordings, some of them missing, and a number."""

import wave

import numpy as np

EXPERIMENT = '''
import dataclasses
import pathlib

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd
from mmkd_jax.data.preprocess import PadOrTrim, Resample


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1


config = Config()


class Own(nn.Module):
    """A user's module, defined in this file alone."""

    @nn.compact
    def __call__(self, batch, ctx, patch):
        call = jnp.where(batch["present.call"][:, None], batch["call"], 0)
        x = jnp.concatenate([call, batch["age"][:, None]], 1)
        tap = mmkd.Taps(patch)
        tap("logits", nn.Dense(2)(nn.tanh(nn.Dense(4)(x))))
        return tap.outputs


def trainings(config):
    draw = np.random.default_rng(0)
    columns = {"call": draw.normal(size=(12, 8)), "present.call": np.arange(12) % 3 > 0, "age": draw.random(12)}
    columns["label"] = np.arange(12) % 2
    rows = mmkd.data.from_columns(columns, "pets", classes=("cat", "dog"))
    task, loader = mmkd.tasks.classification(2), mmkd.data.InMemory(rows, 6)
    model = mmkd.linen(Own())
    shared = {"optimizer": optax.sgd(0.1), "task": task, "data": loader, "validation": loader, "test": loader}
    shared |= {"preprocess": {"call": (Resample(8000, strict=True), PadOrTrim(8))}, "steps": 2}
    return {
        "own": mmkd.Training({"own": mmkd.Trained(model)}, mmkd.combine(task=task.objective("own")), **shared),
        "evaluated": mmkd.Training.evaluation(mmkd.Frozen(model, init_from="own.own"), task, loader, loader),
    }
'''


def record(path, rate=8000, samples=8):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.arange(samples) * 1000).astype("<i2").tobytes())
    return path
