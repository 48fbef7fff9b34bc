"""Decoupled multimodal distillation (DMD): a graph over modalities with learned edge weights."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import summed
from mmkd_jax.core.modalities import presence, present
from mmkd_jax.core.objective import Objective, Term, filled, mask_of, masks
from mmkd_jax.errors import UserError
from mmkd_jax.numeric import at_least_float32, zero_rows
from mmkd_jax.typing import Count, NotNegative, Scalar
from mmkd_jax.validation import validated


@validated
def dmd(
    branches: Mapping[str, tuple[str, str]],
    *,
    prior: Mapping[tuple[str, str], float] | None = None,
    size: Count = 64,
    sharpness: Scalar = 0.125,
    regularization: NotNegative = 10.0,
    weight: Scalar = 0.05,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Decoupled multimodal distillation (DMD): modality branches teach each other along learned graph edges.

    Formula: Σ_{i→j} (w_ij + π_ij) Σ_c |z_j − z_i|_c, no gradient through z_i; w = softmax over all edges of
        a · v[q_j, q_i], q = [W z, U h]; plus λ Σ_ij (mean_b w_ij − π_ij)²

    This is the graph of the homogeneous features. The model provides the encoders that decouple shared from private
    features, with their losses, and the cross-modal attention for the heterogeneous graph.

    Args:
        branches: modality -> paths of its logits z [b, c] and its features h [b, d], of the same width for all.
        prior: (from, to) -> score of an edge, 0 by default; π is the softmax of 4 · score.
        size: output width of W and U.
        sharpness: a.
        regularization: λ.
        weight: weight of both terms.
        where: batch mask(s) of the rows that count. An edge counts in rows with both of its modalities (`present.M`),
            the second term in rows with all modalities.

    Returns:
        An objective with W, U and v as parameters and the terms `logits` and `prior`. Both terms train the edge
        weights.

    Raises:
        UserError: a modality is not in the batch, there are fewer than two branches, or their shapes differ.

    Topic: contrastive
    Compares: logits of the modalities, weighted by logits and features
    Extra: trains two linear maps and the edge scorer
    Source: Li et al., Decoupled Multimodal Distilling for Emotion Recognition, 2023, https://arxiv.org/abs/2303.13802
    Differs: the prior and its softmax are those of the authors' code

    Example:
        >>> paths = {m: (f"student.logits.{m}", f"student.features.{m}") for m in ("text", "audio")}
        >>> graph = dmd(paths, prior={("text", "audio"): 1.0})
    """
    if len(branches) < 2:
        raise UserError(f"dmd: got {len(branches)} branches; give two or more")
    edges = [(source, to) for to in branches for source in branches if source != to]
    scores = dict(prior or {})
    if unknown := [e for e in scores if e not in edges]:
        raise UserError(f"dmd: prior has the unknown edge {unknown[0]}; the edges are: {', '.join(map(str, edges))}")
    pi = jax.nn.softmax(np.array([4 * scores.get(e, 0.0) for e in edges], np.float32))
    graph = Edges(tuple(branches), tuple(edges), size)

    def read(outputs):
        z, h = ({m: filled(outputs, path[i], where) for m, path in branches.items()} for i in (0, 1))
        for kind, arrays in (("logits", z), ("features", h)):
            shapes = {m: list(x.shape) for m, x in arrays.items()}
            if len({tuple(s) for s in shapes.values()}) > 1 or any(len(s) != 2 for s in shapes.values()):
                raise UserError(f"dmd: {kind} have shapes {shapes}; expected [b, d] with one width for all")
        return z, h, {m: present(outputs.batch, m) for m in branches}

    def init(outputs):
        hyperparams = {"sharpness": sharpness, "regularization": regularization, "weight": weight}
        params = graph.init(outputs.ctx.key, *read(outputs), jnp.float32(sharpness))["params"]
        return params, {"hyperparams": {k: np.float32(v) for k, v in hyperparams.items()}}

    def apply(params, state, outputs):
        hyperparams, (z, h, available) = state["hyperparams"], read(outputs)
        w = jnp.asarray(graph.apply({"params": params}, z, h, available, hyperparams["sharpness"]))
        z = {m: zero_rows(x, available[m]) for m, x in zip(z, at_least_float32(*z.values()), strict=True)}
        both = jnp.stack([available[i] & available[j] for i, j in edges], 1)
        gaps = jnp.stack([jnp.sum(jnp.abs(z[j] - stop_gradient(z[i])), -1) for i, j in edges], 1).astype(w.dtype)
        values = jnp.sum(jnp.where(both, (w + pi[None].astype(w.dtype)) * gaps, 0), 1)

        mask = mask_of(outputs, masks(where, presence(outputs.batch, *branches)))
        complete = jnp.ones(len(w), bool) if mask is None else mask
        count = jnp.maximum(summed(jnp.sum(complete), outputs.ctx.axis_name), 1).astype(w.dtype)
        mean = summed(jnp.sum(zero_rows(w, complete), 0), outputs.ctx.axis_name) / count
        penalty = hyperparams["regularization"] * jnp.sum((mean - pi.astype(w.dtype)) ** 2)
        rows = mask_of(outputs, where)
        any_edge = jnp.any(both, 1)
        terms = {
            "logits": Term(values, any_edge if rows is None else rows & any_edge, hyperparams["weight"]),
            "prior": Term(jnp.broadcast_to(penalty, complete.shape), complete, hyperparams["weight"]),
        }
        return terms, state

    return Objective(init, apply)


class Edges(nn.Module):
    """Edge weights per row: a softmax over the edges whose two modalities are present.

    Attributes:
        modalities: names of the modalities.
        edges: pairs of modalities, (from, to).
        size: output width of the maps of logits and of features.
    """

    modalities: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    size: int

    @nn.compact
    def __call__(
        self,
        logits: dict[str, Float[Array, "b c"]],
        features: dict[str, Float[Array, "b d"]],
        present: dict[str, Bool[Array, " b"]],
        sharpness: Scalar,
    ) -> Float[Array, "b e"]:
        of_logits, of_features, edge = nn.Dense(self.size), nn.Dense(self.size), nn.Dense(1)
        q = {}
        for m in self.modalities:
            z, h = (zero_rows(x, present[m]) for x in at_least_float32(logits[m], features[m]))
            q[m] = jnp.concatenate([of_logits(z), of_features(h)], -1)
        score = jnp.concatenate([edge(jnp.concatenate([q[j], q[i]], -1)) for i, j in self.edges], -1)
        mask = jnp.stack([present[i] & present[j] for i, j in self.edges], 1)
        any_edge = jnp.any(mask, 1, keepdims=True)
        score = jnp.where(mask, jnp.asarray(sharpness, score.dtype) * score, -jnp.inf)
        return jnp.where(mask, jax.nn.softmax(jnp.where(any_edge, score, 0), -1), 0)
