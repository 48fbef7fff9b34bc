"""Low-rank adapters of the kernels of a frozen model."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmkd_jax.core.model import Model
from mmkd_jax.core.tuning import matching, sides, tuned
from mmkd_jax.errors import UserError, shown
from mmkd_jax.typing import Positive
from mmkd_jax.validation import check_number

ATTENTION = ("*query.kernel", "*value.kernel")
"""Kernels of the queries and values of attention, in the pretrained encoders."""


def low_rank(
    model: Model,
    rank: int = 8,
    alpha: float | int = 16,
    targets: str | Sequence[str] = ATTENTION,
    trained: str | Sequence[str] | None = None,
) -> Model:
    """Low-rank adapters (LoRA): train a change of low rank of some kernels of a frozen model.

    Formula: W + alpha / rank · A B, with A [m, rank], normal with variance 1 / m, and B [rank, n], zero at first

    At the first step, outputs are those of the model without adapters. A training results in the variables of the whole
    model, with the changes added to its kernels, and `init_from` takes those of a whole model:

        Trained(models.low_rank(tuned.model), init_from=tuned.source)

    Args:
        model: the whole model.
        rank: rank of the changes, at most the smaller side of each kernel.
        alpha: scale of the changes.
        targets: dotted paths of the kernels, below "params"; each may be a pattern and includes all kernels below it.
            A kernel with more than two axes is a matrix whose axes are split where both sides are most alike, such as
            width and heads of attention.
        trained: paths of parameters that are trained in full; those among the targets have no adapters. None is
            everything outside the encoders, such as a head.

    Returns:
        The partly trained Model, with the same outputs.

    Raises:
        UserError: `model` is not a Model, or rank or alpha is not positive; or, from shapes, a path matches no kernel,
            the rank is larger than a side, or `trained` is None and there are no encoders.

    Source: Hu et al., LoRA, 2021, https://arxiv.org/abs/2106.09685

    Example:
        >>> import jax
        >>> from mmkd_jax.core.model import linen
        >>> from mmkd_jax.models import Bert, Encoders, TransformerConfig
        >>> config = TransformerConfig(embed_dim=8, num_layers=2, num_heads=2, mlp_dim=16)
        >>> module = Encoders({"text": Bert(9, config, length=6)})
        >>> batch = {"example_id": jax.numpy.arange(1), **module.encoders["text"].sample("text")}
        >>> variables = low_rank(linen(module), rank=2).init(jax.random.key(0), batch)
        >>> sum(x.size for x in jax.tree.leaves(variables["params"]))
        128
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise UserError(f"low_rank: rank is {shown(repr(rank))}; expected a whole number, 1 or more")
    check_number("low_rank: alpha", alpha, Positive)

    def choose(shapes: Mapping[str, Any]) -> dict[str, int | None]:
        names = list(shapes)
        if trained is None:
            full = [n for n in names if not n.startswith("encoders_")]
            if full == names:
                raise UserError(
                    "low_rank: the model has no encoders_…, outside which everything would be trained: name what is "
                    "trained beside the adapters with trained=(…), or trained=() for nothing"
                )
        else:
            full = matching("low_rank: trained", trained, names)
        wide = {n for n in names if len(shapes[n].shape) > 1 and not n.endswith("bias")}
        kernels = [n for n in names if n in wide and n not in full]
        adapted = matching("low_rank: targets", targets, kernels)
        for name in adapted:
            if rank > min(both := sides(shapes[name].shape)):
                raise UserError(
                    f"low_rank: rank is {rank}, but {name} is a matrix of {both[0]} × {both[1]}: expected at most "
                    f"{min(both)}"
                )
        return {**dict.fromkeys(full), **dict.fromkeys(adapted, rank)}

    return tuned("low_rank", model, choose, alpha / rank)
