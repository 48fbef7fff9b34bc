"""Label alignment: agreement between the predictions of single modalities."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.objective import Objective, combine, filled, mask_of, masks, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.methods._module import apply_module, init_module
from mmkd_jax.nn.connectors import Each, Linear
from mmkd_jax.typing import NotNegative, Scalar
from mmkd_jax.validation import validated


@validated
def label_alignment(
    loss: Callable,
    student: tuple[str, ...],
    *,
    classes: int = 0,
    present: tuple[str | None, ...] = (),
    labels: str = "batch.label",
    labelled: str | tuple[str, ...] | None = None,
    supervision: NotNegative | Callable = 1.0,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
    **arguments: Any,
) -> Objective:
    """Label alignment: make the predictions of single modalities agree with their ensemble.

    Formula: loss(z_1, …, z_M); for features f_m: z_m = W_m f_m + b_m, with the additional term mean_m CE(z_m, y)

    Args:
        loss: loss of a tuple of logits and of masks `present`: `losses.agreement_jsd` or `losses.agreement_kl`.
        student: one path per modality: logits [b, c], or features [b, d] if `classes` is given.
        classes: number of classes; trains a linear head on the features of each modality. Heads trained for agreement
            only could collapse, so they also learn from labels; the student's features get that gradient, too.
        present: names of batch masks of the rows that have each modality, None for a modality that is never missing;
            empty if all rows have all modalities.
        labels: path of the class labels [b]; read only if there are heads.
        labelled: batch mask(s) of the labeled rows.
        supervision: weight of the heads' cross-entropy, a number or a schedule.
        weight: weight of the agreement, a number or a schedule.
        where: batch mask(s) of the rows that count, for both terms.
        **arguments: arguments of the loss, such as `sharpness=2.0`.

    Returns:
        An objective with the term `agreement` and, with heads, `labels`; the heads are its parameters.

    Topic: alignment
    Compares: logits of several modalities
    Extra: trains a linear head per modality if given features
    Source: Lan et al., Knowledge Distillation by On-the-Fly Native Ensemble, 2018, https://arxiv.org/abs/1806.04606
    Differs: the paper's branches are copies of a network's last layers; here they are modalities

    Example:
        >>> from mmkd_jax import losses
        >>> sides = ("student.features.image", "student.features.audio")
        >>> agree = label_alignment(losses.agreement_jsd, sides, classes=10, present=(None, "present.audio"))
    """
    if isinstance(student, str) or len(student) < 2:
        raise UserError(f"label_alignment: student is {student!r}; give a tuple of two or more paths, one per modality")
    if present and (isinstance(present, str) or len(present) != len(student)):
        raise UserError(f"label_alignment: present is {present!r}; give a mask for each of {len(student)} modalities")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise UserError(
            f"label_alignment: classes is {classes!r}; give the number of classes, or 0 for paths of logits"
        )
    presence = {"present": tuple(f"available.{i}" for i in range(len(present)))}

    def add_presence(outputs):
        rows = len(outputs["batch.example_id"])
        masks = [jnp.ones(rows, bool) if name is None else outputs[f"batch.{name}"] for name in present]
        return outputs.add(available={str(i): mask for i, mask in enumerate(masks)})

    if not classes:
        agree = combine(agreement=term(loss, logits=student, **presence, weight=weight, where=where, **arguments))
        return Objective(
            lambda outputs: agree.init(add_presence(outputs)),
            lambda params, state, outputs: agree.apply(params, state, add_presence(outputs)),
        )
    names = [str(i) for i in range(len(student))]
    logits = tuple(f"heads.{name}" for name in names)
    heads = Each(tuple(Linear(classes) for _ in student))
    both = combine(
        agreement=term(loss, logits=logits, **presence, weight=weight, where=where, **arguments),
        labels=term(
            supervised, logits=logits, labels=labels, **presence, weight=supervision, where=masks(where, labelled)
        ),
    )

    def features(outputs):
        return tuple(
            filled(outputs, path, masks(where, mask))
            for path, mask in zip(student, present or repeat(None), strict=False)
        )

    def init(outputs):
        params, _ = init_module(heads, outputs.ctx, features(outputs))
        return params, both.init(add_presence(outputs))[1]

    def apply(params, state, outputs):
        ctx = outputs.ctx._replace(where=mask_of(outputs, where))
        z, _ = apply_module(heads, params, {}, ctx, features(outputs))
        terms, state = both.apply(
            {"agreement": {}, "labels": {}}, state, add_presence(outputs).add(heads=dict(zip(names, z, strict=True)))
        )
        return terms, state

    return Objective(init, apply)


def supervised(
    logits: tuple[Float[Array, "b c"], ...], labels: Int[Array, " b"], *, present: tuple[Bool[Array, " b"], ...] = ()
) -> Float[Array, " b"]:
    """Return the mean cross-entropy over the present modalities."""
    values = jnp.stack([cross_entropy(z, labels) for z in logits])
    mask = jnp.stack(present) if present else jnp.ones(values.shape, bool)
    count = jnp.maximum(jnp.sum(mask, 0), 1).astype(values.dtype)
    return jnp.sum(jnp.where(mask, values, 0), 0) / count
