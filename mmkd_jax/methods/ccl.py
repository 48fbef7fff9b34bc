"""Compositional contrastive learning: what teacher and student see, composed, is what the student is pulled to."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.errors import UserError
from mmkd_jax.losses.contrastive.ccl import ccl as contrast
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl, reverse_kl
from mmkd_jax.losses.number import NotNegative, Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, unit
from mmkd_jax.methods import learned
from mmkd_jax.modalities import presence
from mmkd_jax.objective import Objective, Term, mask_of, masks
from mmkd_jax.views import Context


@held
def ccl(
    teachers: Mapping[str, str],
    *,
    student: str = "student.embedding",
    output: str = "logits",
    labels: str = "batch.label",
    temperature: Positive = 0.5,
    agreement: NotNegative = 0.5,
    weight: Number = 0.5,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Compositional contrastive learning (CCL): contrast by class of student, teachers and their compositions.

    Formula: for each teacher, c = t + W [t/‖t‖, s/‖s‖], student: C(s, c) + C(s, t) + J(z, V c); W and V: these and
    C(s, c) + C(c, t) + J(z, V c) + CE(V c, y), no gradient to the student; C = `losses.ccl` both ways,
    J = γ (KL(p ‖ q) + KL(q ‖ p)), z the student's logits

    Args:
        teachers: modality -> path of its teacher's embedding t, such as {"audio": "audio_teacher.embedding"}.
        student: path of the student's embedding s, [b, d].
        output: name of the student's logits.
        labels: path of the labels y.
        temperature: τ of the contrast.
        agreement: γ.
        weight: of the student's three terms; those of the compositions alone have 1.
        where: mask(s) of the batch: the rows that have a label. Rows that lack a teacher's modality (`present.M`) do
            not count in its terms.

    Returns:
        An objective with W and V of each teacher as parameters, and for each the terms `student` and `composition`.

    Raises:
        UserError: a modality that the batch lacks.

    Topic: contrastive
    Compares: embeddings and logits, labels
    Extra: trains a composition and its classifier a teacher, and a linear map of t where its width is not s's
    Source: Chen et al., Distilling Audio-Visual Knowledge by Compositional Contrastive Learning, 2021,
        https://arxiv.org/abs/2104.10955
    Differs: the authors' image teacher has a τ of its own, 0.1: use one `ccl` a teacher for that

    Example:
        >>> composed = ccl({"audio": "audio_teacher.embedding", "image": "image_teacher.embedding"}, where="labelled")
    """
    if not teachers:
        raise UserError("ccl: no teacher; give the path of an embedding for each modality")
    answer = f"{student.partition('.')[0]}.{output}"

    def module(views):
        return Composition(views[answer].shape[-1])

    def init(views):
        params = {}
        for m, path in teachers.items():
            presence(views.batch, m)
            params[m], _ = learned.begin(module(views), views.ctx.at(m), views[path], views[student])
        given = {"temperature": temperature, "agreement": agreement, "weight": weight}
        return params, {"numbers": {k: np.float32(v) for k, v in given.items()}}

    def apply(params, memory, views):
        numbers, found = memory["numbers"], {}
        y, s, z = views[labels], views[student], views[answer]

        def terms(m, t, s, z, mask):
            """The three of the student, and the composition's own, with the same s and z."""
            (t, c, q), _ = learned.run(module(views), params[m], {}, views.ctx, t, s)
            s, z, t, c, q = at_least_float32(s, z, t, c, q)

            def near(a, b):
                options = {"temperature": numbers["temperature"], "symmetric": True}
                return contrast(a, b, y, **options, where=mask, axis=views.ctx.axis)

            both = near(s, c) + numbers["agreement"].astype(z.dtype) * (kl(z, q) + reverse_kl(z, q))
            return both + near(s, t), both + near(c, t) + cross_entropy(q, y)

        for m, path in teachers.items():
            mask, t = mask_of(views, masks(where, presence(views.batch, m))), stop_gradient(views[path])
            own, _ = terms(m, t, s, z, mask)
            _, composed = terms(m, t, stop_gradient(s), stop_gradient(z), mask)
            found[m] = {"student": Term(own, mask, numbers["weight"]), "composition": Term(composed, mask)}
        return found, memory

    return Objective(init, apply)


class Composition(nn.Module):
    """A teacher's embedding, corrected by what the student sees, and what classes it speaks of.

    Attributes:
        classes: number of classes.
    """

    classes: int

    @nn.compact
    def __call__(
        self, teacher: Float[Array, "b e"], student: Float[Array, "b d"], ctx: Context
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"], Float[Array, "b c"]]:
        teacher, student = at_least_float32(teacher, student)
        width = student.shape[-1]
        if teacher.shape[-1] != width:
            teacher = Linear(width, name="adapt")(teacher, ctx)
        both = jnp.concatenate([unit(teacher), unit(student)], -1)
        composed = teacher + nn.Dense(width, name="residual")(both)
        return teacher, composed, nn.Dense(self.classes, name="classifier")(composed)
