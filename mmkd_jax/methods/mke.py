"""Multimodal knowledge expansion: a unimodal teacher's pseudo-labels, on noisy multimodal input."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from mmkd_jax import attacks
from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.gather import summed
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import NotNegative, Number, Positive
from mmkd_jax.losses.numeric import zero_rows
from mmkd_jax.methods.numbered import numbered
from mmkd_jax.modalities import presence, unit
from mmkd_jax.objective import Objective, combine, mask_of, masks, term


@held
def mke(
    modalities: tuple[str, ...],
    *,
    hard: bool = True,
    noise: NotNegative = 1.0,
    one_scale: bool = False,
    consistency: NotNegative | Callable = 0.0,
    temperature: Positive = 1.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    labelled: str | None = None,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Multimodal knowledge expansion (MKE): a unimodal teacher labels multimodal rows, which the student sees noisy.

    Formula: −log S(x̃)_y, y = argmax T(x) (hard) or KL(T(x) ‖ S(x̃)), plus γ KL(S(x) ‖ S(x̃)), no gradient through S(x);
    x̃_m = x_m + α · mean|x_m| · N(0, 1), the mean over the rows of the batch that count

    Args:
        modalities: names of the inputs that get noise; uint8 is read as [0, 1].
        hard: the teacher's class; else its distribution.
        noise: α. The noise belongs to step and example.
        one_scale: one mean |x| over all the modalities, as where they are the coordinates of a point.
        consistency: γ, a number or a schedule.
        temperature: of the teacher's distribution; hard labels have none.
        student: name of the trained model, which sees more than the teacher.
        teacher: name of the frozen model.
        output: name of the logits.
        labelled: mask of the batch: rows with a label, which keep it and get no pseudo-label.
        weight: of the pseudo-labels, a number or a schedule.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters; it runs the student once more.

    Raises:
        UserError: a modality that the batch lacks.

    Topic: contrastive
    Compares: logits on noisy and clean inputs
    Extra: one further pass of the student
    Source: Xue et al., Multimodal Knowledge Expansion, 2021, https://arxiv.org/abs/2103.14431
    Differs: the authors' TwoMoon has hard labels and no second term, as is the default here, and one_scale=True

    Example:
        >>> expanded = mke(("image", "audio"), labelled="labelled", consistency=0.5)
    """
    clean, noisy, soft = f"{student}.{output}", f"noisy.{output}", f"{teacher}.{output}"
    if isinstance(modalities, str):
        modalities = (modalities,)

    rows = masks(where, "unlabelled" if labelled is not None else None)
    if hard:
        pseudo = term(cross_entropy, logits=noisy, labels="pseudo.label", weight=weight, where=rows)
    else:
        pseudo = term(kl, student=noisy, teacher=soft, temperature=temperature, weight=weight, where=rows)
    terms = combine(pseudo=pseudo, consistency=term(kl, student=noisy, teacher=clean, weight=consistency, where=where))

    def seen(views, numbers):
        batch, inputs, sums = views.batch, {}, {}
        for m in modalities:
            rows = mask_of(views, presence(batch, m))
            x = unit(views["batch." + m])
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise UserError(f"mke: {m!r} is {x.dtype}, to which no noise can be added: name a continuous input")
            rows = jnp.ones(len(x), bool) if rows is None else rows
            wide = zero_rows(x.astype(jnp.promote_types(x.dtype, jnp.float32)), rows)
            entries = jnp.sum(rows).astype(wide.dtype) * (x.size // len(x))
            inputs[m] = x
            sums[m] = tuple(summed(v, views.ctx.axis) for v in (jnp.sum(jnp.abs(wide)), entries))
        everything = tuple(sum(s[i] for s in sums.values()) for i in (0, 1))
        for m, x in inputs.items():
            size, entries = everything if one_scale else sums[m]
            scale = numbers["noise"] * (size / jnp.maximum(entries, 1)).astype(jnp.float32)
            drawn = attacks.row_noise(views.ctx.at(m).key, batch["example_id"], x.shape[1:])
            inputs[m] = x + (scale * drawn).astype(x.dtype)
        after = views.add(noisy=views.run[student]({**batch, **inputs}), pseudo={"label": jnp.argmax(views[soft], -1)})
        others = {} if labelled is None else {"unlabelled": ~views["batch." + labelled]}
        return dataclasses.replace(after, batch={**batch, **others})

    return numbered(terms, seen, noise=noise)
