"""Born-again networks."""

from mmkd_jax.errors import UserError
from mmkd_jax.recipes.setting import Setting
from mmkd_jax.training.training import Training
from mmkd_jax.validation import validated


@validated
def born_again(setting: Setting, generations: int = 3) -> dict[str, Training]:
    """Born-again networks: self-distillation over generations of one architecture.

    Formula: θ₁ ← CE on labels; θ_k ← CE on labels + T² KL(p_(k−1) ‖ p_k) on all rows, k = 2 … K

    Args:
        setting: settings shared by all trainings; each generation has the student's architecture.
        generations: number of generations K, at least 2.

    Returns:
        `born_again_1`, trained on labels alone, … `born_again_K`.

    Raises:
        UserError: fewer than two generations.

    Topic: structure
    Compares: logits of models of one architecture
    Extra: one training per generation, no larger teacher
    Source: Furlanello et al., Born Again Neural Networks, 2018, https://arxiv.org/abs/1805.04770
    Differs: the paper has T = 1, labels for all rows, and also an ensemble of the generations; here all generations
        of a seed start from the same initialization, in the paper from different ones

    Example:
        >>> def trainings(setting):
        ...     return born_again(setting, generations=2)
    """
    if generations < 2:
        raise UserError(f"born_again: generations is {generations}; expected at least 2")
    trainings = {"born_again_1": setting.supervised(setting.student())}
    for k in range(2, generations + 1):
        before = f"born_again_{k - 1}"
        trainings[f"born_again_{k}"] = setting.distilled(setting.student(), {before: trainings[before]})
    return trainings
