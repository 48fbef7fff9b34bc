"""Compositional contrastive learning (CCL)."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import presence
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import Objective, Term, filled, mask_of, masks
from mmkd_jax.errors import UserError
from mmkd_jax.losses.contrastive.ccl import ccl as contrast
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl, reverse_kl
from mmkd_jax.methods._module import apply_module, init_module
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.numeric import at_least_float32, unit
from mmkd_jax.typing import NotNegative, Positive, Scalar
from mmkd_jax.validation import validated


@validated
def ccl(
    teachers: Mapping[str, str],
    *,
    student: str = "student.embedding",
    output: str = "logits",
    labels: str = "batch.label",
    temperature: Positive = 0.5,
    agreement: NotNegative = 0.5,
    weight: Scalar = 0.5,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Compositional contrastive learning (CCL): class-wise contrast of student, teachers and their compositions.

    Formula: for each teacher, c = t + W [t/‖t‖, s/‖s‖], student: C(s, c) + C(s, t) + J(z, V c); W and V: these and
        C(s, c) + C(c, t) + J(z, V c) + CE(V c, y), no gradient to the student; C = `losses.ccl` in both directions,
        J = γ (KL(p ‖ q) + KL(q ‖ p)), z the student's logits

    Args:
        teachers: modality -> path of its teacher's embedding t, such as {"audio": "audio_teacher.embedding"}.
        student: path of the student's embedding s, [b, d].
        output: name of the student's logits.
        labels: path of the class labels y.
        temperature: τ of the contrastive loss.
        agreement: γ.
        weight: weight of the student's three terms; the terms of the compositions have weight 1.
        where: batch mask(s) of the labeled rows. Rows without a teacher's modality (`present.M`) do not count in its
            terms.

    Returns:
        An objective with W and V of each teacher as parameters, and the terms `student` and `composition` per teacher.

    Raises:
        UserError: a modality is not in the batch.

    Topic: contrastive
    Compares: embeddings and logits, labels
    Extra: trains a composition and its classifier per teacher, and a linear map of t if its width differs from s's
    Source: Chen et al., Distilling Audio-Visual Knowledge by Compositional Contrastive Learning, 2021,
        https://arxiv.org/abs/2104.10955
    Differs: the authors' image teacher uses a different τ, 0.1: for that, use one `ccl` per teacher

    Example:
        >>> composed = ccl({"audio": "audio_teacher.embedding", "image": "image_teacher.embedding"}, where="labelled")
    """
    if not teachers:
        raise UserError("ccl: teachers is empty; give a mapping modality -> path of its teacher's embedding")
    logits = f"{student.partition('.')[0]}.{output}"

    def module(outputs):
        return Composition(outputs[logits].shape[-1])

    def init(outputs):
        params = {}
        for m, path in teachers.items():
            presence(outputs.batch, m)
            params[m], _ = init_module(module(outputs), outputs.ctx.at(m), outputs[path], outputs[student])
        hyperparams = {"temperature": temperature, "agreement": agreement, "weight": weight}
        return params, {"hyperparams": {k: np.float32(v) for k, v in hyperparams.items()}}

    def apply(params, state, outputs):
        hyperparams, out = state["hyperparams"], {}

        def terms(m, y, t, s, z, mask):
            """Return the losses of the student and of the composition."""
            (t, c, q), _ = apply_module(module(outputs), params[m], {}, outputs.ctx, t, s)
            s, z, t, c, q = at_least_float32(s, z, t, c, q)

            def contrastive(a, b):
                options = {"temperature": hyperparams["temperature"], "symmetric": True}
                return contrast(a, b, y, **options, where=mask, axis_name=outputs.ctx.axis_name)

            shared = contrastive(s, c) + hyperparams["agreement"].astype(z.dtype) * (kl(z, q) + reverse_kl(z, q))
            return shared + contrastive(s, t), shared + contrastive(c, t) + cross_entropy(q, y)

        for m, path in teachers.items():
            counted = masks(where, presence(outputs.batch, m))
            y, t, s, z = (filled(outputs, p, counted) for p in (labels, path, student, logits))
            mask, t = mask_of(outputs, counted), stop_gradient(t)
            to_student, _ = terms(m, y, t, s, z, mask)
            _, composed = terms(m, y, t, stop_gradient(s), stop_gradient(z), mask)
            out[m] = {"student": Term(to_student, mask, hyperparams["weight"]), "composition": Term(composed, mask)}
        return out, state

    return Objective(init, apply)


class Composition(nn.Module):
    """Composition of a teacher's embedding with a residual from the student's, and its classifier.

    Attributes:
        classes: number of classes.
    """

    classes: int

    @nn.compact
    def __call__(
        self, teacher: Float[Array, "b e"], student: Float[Array, "b d"], ctx: StepContext
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"], Float[Array, "b c"]]:
        teacher, student = at_least_float32(teacher, student)
        width = student.shape[-1]
        if teacher.shape[-1] != width:
            teacher = Linear(width, name="adapt")(teacher, ctx)
        both = jnp.concatenate([unit(teacher), unit(student)], -1)
        composed = teacher + nn.Dense(width, name="residual")(both)
        return teacher, composed, nn.Dense(self.classes, name="classifier")(composed)
