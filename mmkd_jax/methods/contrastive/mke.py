"""Multimodal knowledge expansion (MKE)."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from mmkd_jax.adversarial import attacks
from mmkd_jax.collectives import summed
from mmkd_jax.core.method_hyperparams import with_method_hyperparams
from mmkd_jax.core.modalities import presence, unit
from mmkd_jax.core.objective import Objective, combine, mask_of, masks, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.numeric import top_class, zero_rows
from mmkd_jax.typing import NotNegative, Positive, Scalar
from mmkd_jax.validation import validated


@validated
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
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Multimodal knowledge expansion (MKE): a unimodal teacher's pseudo-labels on noisy multimodal input.

    Formula: −log S(x̃)_y, y = argmax T(x) (hard) or KL(T(x) ‖ S(x̃)), plus γ KL(S(x) ‖ S(x̃)), no gradient through
        S(x); x̃_m = x_m + α · mean|x_m| · N(0, 1), the mean over the unmasked rows of the batch

    Args:
        modalities: names of the inputs to add noise to; uint8 is scaled to [0, 1].
        hard: use the teacher's predicted class; else its distribution.
        noise: α. The noise depends on step and example.
        one_scale: use one mean |x| over all modalities, for example if they are the coordinates of a point.
        consistency: γ, a number or a schedule.
        temperature: temperature of the soft pseudo-labels; unused if hard.
        student: name of the trained model, which has more modalities than the teacher.
        teacher: name of the frozen model.
        output: name of the logits output.
        labelled: batch mask of the labeled rows; they keep their labels and get no pseudo-labels.
        weight: weight of the pseudo-label term, a number or a schedule.
        where: batch mask(s) of the rows that count.

    Returns:
        A parameter-free objective with one extra pass of the student.

    Raises:
        UserError: a modality is not in the batch.

    Topic: contrastive
    Compares: logits on noisy and clean inputs
    Extra: one further pass of the student
    Source: Xue et al., Multimodal Knowledge Expansion, 2021, https://arxiv.org/abs/2103.14431
    Differs: the authors' TwoMoon experiment uses hard labels and no consistency term (the defaults here), and
        one_scale=True

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

    def add_noisy(outputs, hyperparams):
        batch, inputs, sums = outputs.batch, {}, {}
        for m in modalities:
            rows = mask_of(outputs, presence(batch, m))
            x = unit(outputs["batch." + m])
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise UserError(f"mke: cannot add noise to {m!r} of dtype {x.dtype}; name a continuous input")
            rows = jnp.ones(len(x), bool) if rows is None else rows
            wide = zero_rows(x.astype(jnp.promote_types(x.dtype, jnp.float32)), rows)
            entries = jnp.sum(rows).astype(wide.dtype) * (x.size // len(x))
            inputs[m] = x
            sums[m] = tuple(summed(v, outputs.ctx.axis_name) for v in (jnp.sum(jnp.abs(wide)), entries))
        over_all = tuple(sum(s[i] for s in sums.values()) for i in (0, 1))
        for m, x in inputs.items():
            size, entries = over_all if one_scale else sums[m]
            scale = hyperparams["noise"] * (size / jnp.maximum(entries, 1)).astype(jnp.float32)
            sample = attacks.row_noise(outputs.ctx.at(m).key, batch["example_id"], x.shape[1:])
            inputs[m] = x + (scale * sample).astype(x.dtype)
        added = outputs.add(noisy=outputs.run[student]({**batch, **inputs}), pseudo={"label": top_class(outputs[soft])})
        unlabeled = {} if labelled is None else {"unlabelled": ~outputs["batch." + labelled]}
        return dataclasses.replace(added, batch={**batch, **unlabeled})

    return with_method_hyperparams(terms, add_noisy, noise=noise)
