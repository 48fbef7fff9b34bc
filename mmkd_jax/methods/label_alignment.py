"""Label alignment: what each modality alone predicts is to agree."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Each, Linear
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.number import NotNegative, Number
from mmkd_jax.methods import learned
from mmkd_jax.objective import Objective, combine, mask_of, masks, term


@held
def label_alignment(
    loss: Callable,
    student: tuple[str, ...],
    *,
    classes: int = 0,
    present: tuple[str | None, ...] = (),
    labels: str = "batch.label",
    labelled: str | tuple[str, ...] | None = None,
    supervision: NotNegative | Callable = 1.0,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
    **arguments: Any,
) -> Objective:
    """Label alignment: the predictions of each modality alone are to agree with what all of them agree on.

    Formula: loss(z_1, …, z_M); of features f_m: z_m = W_m f_m + b_m, and beside it mean_m CE(z_m, y)

    Args:
        loss: of a tuple of logits, and of masks `present`: `losses.agreement_jsd` or `losses.agreement_kl`.
        student: paths, one a modality: of its logits [b, c], or of its features [b, d] if `classes` is given.
        classes: number of classes: a linear head is trained on the features of each modality. Heads that were only to
            agree would agree on anything, so labels teach them; the student's features get that gradient, too.
        present: names of masks of the batch, one a modality, that tell which rows have it, None for a modality that is
            always there; none at all: all rows have all.
        labels: path of the labels, [b]; of heads only.
        labelled: mask(s) of the rows that have a label.
        supervision: weight of the heads' cross-entropy, a number or a schedule.
        weight: of the agreement, a number or a schedule.
        where: mask(s) of the batch, of both terms.
        **arguments: the loss's own, such as `sharpness=2.0`.

    Returns:
        An objective with the terms `agreement` and, where there are heads, `labels`; the heads are its parameters.

    Topic: alignment
    Compares: logits of several modalities
    Extra: trains a linear head a modality, where only features are given
    Source: Lan et al., Knowledge Distillation by On-the-Fly Native Ensemble, 2018, https://arxiv.org/abs/1806.04606
    Differs: the paper's branches are copies of a network's last layers, here they are modalities

    Example:
        >>> from mmkd_jax import losses
        >>> sides = ("student.features.image", "student.features.audio")
        >>> agree = label_alignment(losses.agreement_jsd, sides, classes=10, present=(None, "present.audio"))
    """
    if isinstance(student, str) or len(student) < 2:
        raise UserError(f"label_alignment: student is {student!r}; give a tuple of paths, one a modality, two or more")
    if present and (isinstance(present, str) or len(present) != len(student)):
        raise UserError(f"label_alignment: present is {present!r}; give a mask for each of {len(student)} modalities")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise UserError(f"label_alignment: classes is {classes!r}; give their number, or 0 where paths name logits")
    there = {"present": tuple(f"there.{i}" for i in range(len(present)))}

    def look(views):
        rows = len(views["batch.example_id"])
        masks = [jnp.ones(rows, bool) if name is None else views[f"batch.{name}"] for name in present]
        return views.add(there={str(i): mask for i, mask in enumerate(masks)})

    if not classes:
        agree = combine(agreement=term(loss, logits=student, **there, weight=weight, where=where, **arguments))
        return Objective(
            lambda views: agree.init(look(views)),
            lambda params, memory, views: agree.apply(params, memory, look(views)),
        )
    names = [str(i) for i in range(len(student))]
    logits = tuple(f"heads.{name}" for name in names)
    heads = Each(tuple(Linear(classes) for _ in student))
    both = combine(
        agreement=term(loss, logits=logits, **there, weight=weight, where=where, **arguments),
        labels=term(
            supervised, logits=logits, labels=labels, **there, weight=supervision, where=masks(where, labelled)
        ),
    )

    def features(views):
        return tuple(views[path] for path in student)

    def init(views):
        params, _ = learned.begin(heads, views.ctx, features(views))
        return params, both.init(look(views))[1]

    def apply(params, memory, views):
        ctx = views.ctx._replace(where=mask_of(views, where))
        z, _ = learned.run(heads, params, {}, ctx, features(views))
        found, memory = both.apply(
            {"agreement": {}, "labels": {}}, memory, look(views).add(heads=dict(zip(names, z, strict=True)))
        )
        return found, memory

    return Objective(init, apply)


def supervised(
    logits: tuple[Float[Array, "b c"], ...], labels: Int[Array, " b"], *, present: tuple[Bool[Array, " b"], ...] = ()
) -> Float[Array, " b"]:
    """The mean cross-entropy of the modalities that are there."""
    values = jnp.stack([cross_entropy(z, labels) for z in logits])
    there = jnp.stack(present) if present else jnp.ones(values.shape, bool)
    count = jnp.maximum(jnp.sum(there, 0), 1).astype(values.dtype)
    return jnp.sum(jnp.where(there, values, 0), 0) / count
