"""Ensembles: several teachers as one Model."""

from collections.abc import Mapping

import jax.numpy as jnp

from mmkd_jax.core.model import Model, StepContext, check_whole
from mmkd_jax.errors import UserError, choices


def ensemble(models: Mapping[str, Model], weights: Mapping[str, float] | None = None) -> Model:
    """Ensemble of teachers: average each output that all of them return with the same shape.

    Formula: h = Σ_i w_i h_i / Σ_i w_i

    Args:
        models: name -> Model; the ensemble's variables are a dict with these names.
        weights: name -> weight; equal by default.

    Returns:
        A Model without additional parameters; a patch is applied to each member that has the named output.

    Example:
        >>> import jax
        >>> from mmkd_jax.core.model import plain
        >>> one, two = (plain(lambda params, batch, k=k: {"logits": k * batch["x"]}) for k in (1.0, 3.0))
        >>> both = ensemble({"one": one, "two": two})
        >>> batch = {"x": jnp.ones(2)}
        >>> both.apply(both.init(jax.random.key(0), batch), batch, StepContext(0, jax.random.key(0)), {})[0]["logits"]
        Array([2., 2.], dtype=float32)
    """
    for name, model in models.items() if isinstance(models, Mapping) else [("models", models)]:
        if not isinstance(model, Model):
            kind = type(model).__name__
            raise UserError(
                f"ensemble: {name!r} is {kind}; expected name -> Model, such as a pretrained one's `.model`"
            )
    check_whole("ensemble", models)
    labels, problem = one_problem("ensemble", models)
    share = {n: (weights or {}).get(n, 1.0) for n in models}
    scale = sum(share.values())

    def init(key, batch):
        ctx = StepContext(0, key)
        return {n: m.init(ctx.at(n).key, batch) for n, m in models.items()}

    def apply(variables, batch, ctx, patch):
        outputs = {n: m.apply(variables[n], batch, ctx.at(n), patch)[0] for n, m in models.items()}
        first = next(iter(outputs.values()))
        shared = [k for k, x in first.items() if all(k in o and o[k].shape == x.shape for o in outputs.values())]
        if not shared:
            raise UserError(f"the teachers {choices(models)} share no output of the same name and shape")
        return {
            k: sum(jnp.asarray(share[n] / scale, o[k].dtype) * o[k] for n, o in outputs.items()) for k in shared
        }, {}

    per_class = tuple(dict.fromkeys(n for m in models.values() for n in m.class_outputs))
    return Model(init, apply, labels=labels, problem=problem, class_outputs=per_class)


def one_problem(what: str, models: Mapping[str, Model]) -> tuple[tuple[str, ...], str]:
    """Return `labels` and `problem` of models whose logits are averaged; those of a model without them are the others'.

    Raises:
        UserError: they differ.
    """
    if len(labels := {m.labels for m in models.values() if m.labels}) > 1:
        raise UserError(f"{what}: {choices(models)} have other classes, or in another order: {sorted(labels)}")
    if len(problems := {m.problem for m in models.values() if m.problem}) > 1:
        raise UserError(f"{what}: the logits of {choices(models)} are of different problems: {choices(problems)}")
    return next(iter(labels), ()), next(iter(problems), "")
