"""SimKD: a student that reuses its teacher's classifier."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmkd_jax.core.model import Model, StepContext, Taps, check_whole
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses._pool import average_pool
from mmkd_jax.nn.connectors import Bottleneck

OWN = ("projected", "pooled", "logits")


def simkd(
    student: Model,
    head: nn.Module,
    *,
    width: int,
    reads: str = "embedding",
    size: tuple[int, int] | None = None,
    factor: int = 2,
    labels: Sequence[str] = (),
    problem: str = "",
) -> Model:
    """SimKD: project the student's features to the teacher's, and classify them with the teacher's frozen classifier.

    Formula: z = ReLU(BN(W₃ ReLU(BN(W₂ ReLU(BN(W₁ s)))))); logits = h(mean of z over positions), with the teacher's
        classifier h, frozen

    Train the model with `losses.simkd` alone, on its output `projected`. The classifier's weights are not parameters;
    they form the collection `head`, which a training initializes from the teacher:

        Trained(model, init_from={"head": "teacher.teacher.params.Classifier_0"})

    The student's layers above `reads`, such as its own classifier, are not trained.

    Args:
        student: student model of any kind.
        head: the teacher's classifier as a module, `(x) -> logits`.
        width: number of input features of the classifier.
        reads: name of the student output to project: a map [b, h, w, c] or vectors [b, d].
        size: height and width of the teacher's map; a larger student map is pooled to this size.
        factor: reduction factor; the projector's hidden layers have width / factor channels.
        labels: names of the classes of the classifier, in the order of its logits, such as those of the teacher; not
            those of the student's own logits, which they replace.
        problem: what the classifier was trained for, as of a `Model`.

    Returns:
        A Model with the student's outputs, `projected` and `pooled`; its `logits` replace the student's.

    Topic: features
    Compares: features
    Extra: trains a projector, which is part of the student; keeps the teacher's classifier
    Source: Chen et al., Knowledge Distillation with the Reused Teacher Classifier, 2022, https://arxiv.org/abs/2203.14001

    Example:
        >>> from mmkd_jax.models import AudioTDNN, Classifier, Multimodal
        >>> from mmkd_jax.core.model import linen
        >>> small = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))
        >>> model = simkd(small, Classifier(10), width=64)
    """
    check_whole("simkd", {"the student": student})
    projector = Bottleneck(width, max(width // factor, 1), activated=True)

    def read(outputs):
        if reads not in outputs:
            raise UserError(f"simkd: the student has no output {reads!r}; it has: {choices(outputs)}")
        x = outputs[reads]
        if size is None or x.ndim != 4:
            return x
        return average_pool(x, (min(size[0], x.shape[1]), min(size[1], x.shape[2])))

    def init(key, batch):
        ctx = StepContext(0, key, train=False)
        state = dict(student.init(ctx.at("student").key, batch))
        features = read(student.apply(state, batch, ctx, {})[0])
        projector_state = dict(projector.init(ctx.at("projector").key, features, ctx))
        classifier = head.init(ctx.at("head").key, jnp.zeros((1, width), features.dtype))["params"]
        # NaN until it is initialized from the teacher: it is never trained
        classifier = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), classifier)
        params = {"student": state.pop("params"), "projector": projector_state.pop("params")}
        return {"params": params, "state": {"student": state, "projector": projector_state}, "head": classifier}

    def apply(variables, batch, ctx, patch):
        params, state = variables["params"], variables["state"]
        inner = {k: x for k, x in patch.items() if k not in OWN}
        outputs, student_state = student.apply({"params": params["student"], **state["student"]}, batch, ctx, inner)
        mutable = ["batch_stats"] if ctx.train else []
        projected = {"params": params["projector"], **state["projector"]}
        z, statistics = projector.apply(projected, read(outputs), ctx, mutable=mutable)
        tap = Taps({k: x for k, x in patch.items() if k in OWN})
        z = tap("projected", z)
        pooled = tap("pooled", z.reshape(z.shape[0], -1, width).mean(1))
        tap("logits", head.apply({"params": variables["head"]}, pooled))
        state = {"student": student_state, "projector": statistics}
        return {**outputs, **tap.outputs}, {"state": state, "head": variables["head"]} if ctx.train else {}

    own = tuple(n for n in student.class_outputs if n not in OWN and student.labels == tuple(labels))
    return Model(init, apply, student.fixed, ("head",), tuple(labels), problem, class_outputs=("logits", *own))
