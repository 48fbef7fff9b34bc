"""Generations of one model."""

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.part import Part
from mmkd_jax.recipes.setting import Setting


@held
def born_again(setting: Setting, generations: int = 3) -> dict[str, Part]:
    """Born-again networks: a model teaches the next one of the same architecture, and so on.

    Formula: θ₁ ← CE on labels; θ_k ← CE on labels + T² KL(p_(k−1) ‖ p_k) on all rows, k = 2 … K

    Args:
        setting: what the parts share; each generation is a student of it.
        generations: K, at least 2.

    Returns:
        `born_again_1`, which learns from labels alone, … `born_again_K`.

    Raises:
        UserError: fewer than two generations.

    Topic: structure
    Compares: logits, of models of one architecture
    Extra: one training a generation, no larger teacher
    Source: Furlanello et al., Born Again Neural Networks, 2018, https://arxiv.org/abs/1805.04770
    Differs: the paper has T = 1, labels for all rows, and an ensemble of the generations, too; here all generations
        of a seed begin with the same values, the paper draws them anew

    Example:
        >>> def parts(setting):
        ...     return born_again(setting, generations=2)
    """
    if generations < 2:
        raise UserError(f"born_again: generations is {generations}; expected at least 2")
    parts = {"born_again_1": setting.alone(setting.student())}
    for k in range(2, generations + 1):
        before = f"born_again_{k - 1}"
        parts[f"born_again_{k}"] = setting.taught(setting.student(), {before: parts[before]})
    return parts
