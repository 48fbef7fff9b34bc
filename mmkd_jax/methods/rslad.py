"""Robust soft label adversarial distillation: the student follows the clean teacher under attack."""

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import attacks
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Number
from mmkd_jax.objective import Objective, combine, term


def rslad(
    modality: str,
    *,
    eps: Number = 8 / 255,
    step_size: Number = 2 / 255,
    steps: int = 10,
    alpha: float = 5 / 6,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    low: float | None = 0.0,
    high: float | None = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Pull the student to the frozen teacher's clean answers, on clean inputs and on those an inner attack finds.

    Formula: (1 − α) KL(T(x) ‖ S(x)) + α KL(T(x) ‖ S(x')), x' = argmax over ‖x' − x‖∞ ≤ ε of KL(T(x) ‖ S(x')).

    Args:
        modality: name of the attacked input; uint8 is read as [0, 1].
        eps: radius of the attack, in units of the input.
        step_size: of the attack, in units of the input.
        steps: of the attack.
        alpha: share of the attacked term; the terms' weights `clean.weight` and `attacked.weight` start from it.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits.
        low: smallest input value; None is unbounded.
        high: largest input value; None is unbounded.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters; it runs the student `steps + 1` times more, in the attack with train=False.

    Topic: adversarial
    Compares: logits on clean and attacked inputs
    Extra: steps + 1 further passes of the student
    Source: Zi et al., Revisiting Adversarial Robustness Distillation, 2021, https://arxiv.org/abs/2108.07969

    Example:
        >>> robust = rslad("image", eps=4 / 255, steps=3)
    """
    clean = f"{student}.{output}"
    soft = f"{teacher}.{output}"
    terms = combine(
        clean=term(kl, student=clean, teacher=soft, weight=1 - alpha, where=where),
        attacked=term(kl, student=f"attacked.{output}", teacher=soft, weight=alpha, where=where),
    )

    def attacked(views, numbers, steps):
        batch, answer = views.batch, jax.lax.stop_gradient(views[soft])
        x = views["batch." + modality]
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = x.astype(jnp.float32) / 255
        run = views.run[student]
        start = 1e-3 * attacks.row_noise(views.ctx.key, batch["example_id"], x.shape[1:])
        found = attacks.pgd(
            lambda x: kl(run({**batch, modality: x}, train=False)[output], answer),
            x,
            eps=numbers["eps"],
            step_size=numbers["step_size"],
            steps=steps,
            start=start,
            low=low,
            high=high,
        )
        return views.add(attacked=run({**batch, modality: found}))

    def init(views):
        numbers = {"eps": np.float32(eps), "step_size": np.float32(step_size)}
        params, memory = terms.init(attacked(views, numbers, steps=0))
        return params, memory | {"numbers": numbers}

    def apply(params, memory, views):
        inner = {k: v for k, v in memory.items() if k != "numbers"}
        out, inner = terms.apply(params, inner, attacked(views, memory["numbers"], steps))
        return out, inner | {"numbers": memory["numbers"]}

    return Objective(init, apply)
