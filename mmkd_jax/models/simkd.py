"""SimKD: a student that answers through its teacher's classifier."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmkd_jax.connectors import Bottleneck
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.pool import average_pool
from mmkd_jax.views import Context, Model, Taps

OWN = ("projected", "pooled", "logits")


def simkd(
    student: Model,
    head: nn.Module,
    *,
    width: int,
    reads: str = "embedding",
    size: tuple[int, int] | None = None,
    factor: int = 2,
) -> Model:
    """SimKD: a model whose features are projected to those of its teacher, and classified by the teacher's classifier.

    Formula: z = ReLU(BN(W₃ ReLU(BN(W₂ ReLU(BN(W₁ s)))))), logits = h(mean over places of z), h the teacher's, frozen

    It is trained by `losses.simkd` alone, on its output `projected`. The classifier's values are no parameters but the
    collection `head`, which a part takes from the teacher's:

        take={"student.head": "teacher.teacher.params.Classifier_0"}

    What the student itself has above `reads`, such as a classifier of its own, stays as it began.

    Args:
        student: the model that is read, of any kind.
        head: the teacher's classifier as a module, `(x) -> logits`.
        width: channels of the features that the classifier reads.
        reads: name of the student's output that is projected: a map [b, h, w, c] or rows [b, d].
        size: height and width of the teacher's map; a larger map of the student is pooled to that.
        factor: the projector's inner layers have width / factor channels.

    Returns:
        A Model with the student's outputs and `projected`, `pooled` and, in the place of its own, `logits`.

    Topic: features
    Compares: features
    Extra: trains a projector, which belongs to the student; holds the teacher's classifier
    Source: Chen et al., Knowledge Distillation with the Reused Teacher Classifier, 2022, https://arxiv.org/abs/2203.14001

    Example:
        >>> from mmkd_jax.models import AudioTDNN, Classifier, Multimodal
        >>> from mmkd_jax.views import linen
        >>> small = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))
        >>> model = simkd(small, Classifier(10), width=64)
    """
    projector = Bottleneck(width, max(width // factor, 1), activated=True)

    def read(outputs):
        if reads not in outputs:
            raise UserError(f"simkd: the student has no output {reads!r}; it has: {choices(outputs)}")
        x = outputs[reads]
        if size is None or x.ndim != 4:
            return x
        return average_pool(x, (min(size[0], x.shape[1]), min(size[1], x.shape[2])))

    def init(key, batch):
        ctx = Context(0, key, train=False)
        own = dict(student.init(ctx.at("student").key, batch))
        features = read(student.apply(own, batch, ctx, {})[0])
        made = dict(projector.init(ctx.at("projector").key, features, ctx))
        classifier = head.init(ctx.at("head").key, jnp.zeros((1, width), features.dtype))["params"]
        classifier = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), classifier)  # to be given: nobody trains it
        params = {"student": own.pop("params"), "projector": made.pop("params")}
        return {"params": params, "state": {"student": own, "projector": made}, "head": classifier}

    def apply(variables, batch, ctx, patch):
        params, state = variables["params"], variables["state"]
        inner = {k: x for k, x in patch.items() if k not in OWN}
        own = {"params": params["student"], **state["student"]}
        outputs, moved = student.apply(own, batch, ctx, inner)
        mutable = ["batch_stats"] if ctx.train else []
        projected = {"params": params["projector"], **state["projector"]}
        z, statistics = projector.apply(projected, read(outputs), ctx, mutable=mutable)
        tap = Taps({k: x for k, x in patch.items() if k in OWN})
        z = tap("projected", z)
        pooled = tap("pooled", z.reshape(len(z), -1, width).mean(1))
        tap("logits", head.apply({"params": variables["head"]}, pooled))
        now = {"student": moved, "projector": statistics} if ctx.train else {}
        return {**outputs, **tap.outputs}, {"state": now, "head": variables["head"]} if ctx.train else {}

    return Model(init, apply, student.fixed, needs=("head",))
