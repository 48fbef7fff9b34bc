"""AV-digits: what int8 costs the distilled student, after training and with training that is aware of it.

    pip install 'mmkd_jax[quant]'
    mmkd run experiments/av_digits_int8.py

The teacher and the student are those of av_digits.py. `rounded` is the distilled student with weights and activations
rounded to 8 bits after training. `aware` starts from the distilled student and is trained further with the teacher's
loss, rounded in every step; `longer` is trained further in the same way without rounding. With `--bits 5` they are
rounded to 5 bits.
"""

import dataclasses
import sys
from typing import Any

import optax
from av_digits import Config as Digits
from av_digits import trainings as digits

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config(Digits):
    """Configuration of AV-digits with quantization."""

    seeds: int = 3
    """Number of seeds per training."""
    bits: int = 8
    """Bits of weights and activations: 5 to 8."""
    further_steps: int = 500
    """Training steps after the distillation."""
    further_rate: float = 3e-4
    """Peak learning rate of these steps."""


config = Config()
baseline = {"rounded": "distilled", "aware": "rounded", "longer": "distilled"}


def trainings(config: Config) -> dict[str, mmkd.Training]:
    made = digits(config)
    distilled = made["distilled"]
    student = distilled.networks["student"]
    rounded = mmkd.deploy.qat(student, config.bits)
    steps = config.further_steps
    further: dict[str, Any] = {
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.further_rate, steps), weight_decay=1e-4),
        "steps": steps,
        "evaluate_every": max(1, min(50, steps // 10)),
        "save_every": max(1, steps // 2),
    }

    def after(model):
        start = mmkd.Trained(model, init_from="distilled.student")
        return dataclasses.replace(distilled, models={**distilled.models, "student": start}, **further)

    start = mmkd.Frozen(rounded, init_from="distilled.student")
    after_training = mmkd.Training.evaluation(
        start, distilled.task, distilled.validation, distilled.test, name="student"
    )
    trained = {"teacher": made["teacher"], "distilled": distilled, "rounded": after_training}
    return trained | {"aware": after(rounded), "longer": after(student)}


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
