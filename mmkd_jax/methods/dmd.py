"""Decoupled multimodal distillation: a graph over modalities, whose edges say who learns from whom."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.gather import summed
from mmkd_jax.losses.number import Count, NotNegative, Number
from mmkd_jax.losses.numeric import at_least_float32, zero_rows
from mmkd_jax.modalities import presence, present
from mmkd_jax.objective import Objective, Term, mask_of, masks


@held
def dmd(
    branches: Mapping[str, tuple[str, str]],
    *,
    prior: Mapping[tuple[str, str], float] | None = None,
    size: Count = 64,
    sharpness: Number = 0.125,
    regularization: NotNegative = 10.0,
    weight: Number = 0.05,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Decoupled multimodal distillation (DMD): the branches of a model teach each other along learned edges.

    Formula: Σ_{i→j} (w_ij + π_ij) Σ_c |z_j − z_i|_c, no gradient through z_i; w = softmax over all edges of
    a · v[q_j, q_i], q = [W z, U h]; plus λ Σ_ij (mean_b w_ij − π_ij)²

    This is the graph of the homogeneous features. The encoders that take shared from private features apart, with
    their losses, and the attention between modalities that the heterogeneous graph looks at belong to a model.

    Args:
        branches: modality -> paths of its logits z [b, c] and its features h [b, d], in one width for all.
        prior: (from, to) -> score of an edge; π is the softmax of 4 · score, 0 where none is given.
        size: of W and U.
        sharpness: a.
        regularization: λ.
        weight: of both terms.
        where: mask(s) of the batch. An edge counts in the rows that have both its modalities (`present.M`), the second
            term in those that have all.

    Returns:
        An objective with W, U and v as parameters and the terms `logits` and `prior`. The edges get a gradient of both.

    Raises:
        UserError: a modality that the batch lacks, fewer than two branches, branches of unlike shapes.

    Topic: contrastive
    Compares: logits of the modalities, weighted by logits and features
    Extra: trains two linear maps and the edge's
    Source: Li et al., Decoupled Multimodal Distilling for Emotion Recognition, 2023, https://arxiv.org/abs/2303.13802
    Differs: the prior and its softmax are those of the authors' code

    Example:
        >>> paths = {m: (f"student.logits.{m}", f"student.features.{m}") for m in ("text", "audio")}
        >>> graph = dmd(paths, prior={("text", "audio"): 1.0})
    """
    if len(branches) < 2:
        raise UserError(f"dmd: {len(branches)} branches; give two or more")
    edges = [(source, to) for to in branches for source in branches if source != to]
    scores = dict(prior or {})
    if strange := [e for e in scores if e not in edges]:
        raise UserError(f"dmd: prior names {strange[0]}; the edges are: {', '.join(map(str, edges))}")
    pi = jax.nn.softmax(np.array([4 * scores.get(e, 0.0) for e in edges], np.float32))
    graph = Edges(tuple(branches), tuple(edges), size)

    def read(views):
        z, h = ({m: views[path[i]] for m, path in branches.items()} for i in (0, 1))
        for what, arrays in (("logits", z), ("features", h)):
            shapes = {m: list(x.shape) for m, x in arrays.items()}
            if len({tuple(s) for s in shapes.values()}) > 1 or any(len(s) != 2 for s in shapes.values()):
                raise UserError(f"dmd: {what} are {shapes}; expected [b, d] of one width for all")
        return z, h, {m: present(views.batch, m) for m in branches}

    def init(views):
        given = {"sharpness": sharpness, "regularization": regularization, "weight": weight}
        params = graph.init(views.ctx.key, *read(views), jnp.float32(sharpness))["params"]
        return params, {"numbers": {k: np.float32(v) for k, v in given.items()}}

    def apply(params, memory, views):
        numbers, (z, h, here) = memory["numbers"], read(views)
        w = jnp.asarray(graph.apply({"params": params}, z, h, here, numbers["sharpness"]))
        z = {m: zero_rows(x, here[m]) for m, x in zip(z, at_least_float32(*z.values()), strict=True)}
        both = jnp.stack([here[i] & here[j] for i, j in edges], 1)
        gaps = jnp.stack([jnp.sum(jnp.abs(z[j] - stop_gradient(z[i])), -1) for i, j in edges], 1).astype(w.dtype)
        values = jnp.sum(jnp.where(both, (w + pi[None].astype(w.dtype)) * gaps, 0), 1)

        mask = mask_of(views, masks(where, presence(views.batch, *branches)))
        whole = jnp.ones(len(w), bool) if mask is None else mask
        count = jnp.maximum(summed(jnp.sum(whole), views.ctx.axis), 1).astype(w.dtype)
        mean = summed(jnp.sum(zero_rows(w, whole), 0), views.ctx.axis) / count
        away = numbers["regularization"] * jnp.sum((mean - pi.astype(w.dtype)) ** 2)
        rows = mask_of(views, where)
        some = jnp.any(both, 1)
        terms = {
            "logits": Term(values, some if rows is None else rows & some, numbers["weight"]),
            "prior": Term(jnp.broadcast_to(away, whole.shape), whole, numbers["weight"]),
        }
        return terms, memory

    return Objective(init, apply)


class Edges(nn.Module):
    """The weight of each edge in each row: a softmax over the edges whose ends are both there.

    Attributes:
        modalities: their names.
        edges: pairs of them, from and to.
        size: of the maps of logits and of features.
    """

    modalities: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    size: int

    @nn.compact
    def __call__(
        self,
        logits: dict[str, Float[Array, "b c"]],
        features: dict[str, Float[Array, "b d"]],
        here: dict[str, Bool[Array, " b"]],
        sharpness: Number,
    ) -> Float[Array, "b e"]:
        of_logits, of_features, edge = nn.Dense(self.size), nn.Dense(self.size), nn.Dense(1)
        q = {}
        for m in self.modalities:
            z, h = (zero_rows(x, here[m]) for x in at_least_float32(logits[m], features[m]))
            q[m] = jnp.concatenate([of_logits(z), of_features(h)], -1)
        score = jnp.concatenate([edge(jnp.concatenate([q[j], q[i]], -1)) for i, j in self.edges], -1)
        there = jnp.stack([here[i] & here[j] for i, j in self.edges], 1)
        some = jnp.any(there, 1, keepdims=True)
        score = jnp.where(there, jnp.asarray(sharpness, score.dtype) * score, -jnp.inf)
        return jnp.where(there, jax.nn.softmax(jnp.where(some, score, 0), -1), 0)
