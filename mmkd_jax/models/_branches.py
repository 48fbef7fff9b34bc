"""Several models trained jointly as one."""

from collections.abc import Mapping

from mmkd_jax.core.ensemble import one_problem
from mmkd_jax.core.model import Model, StepContext, check_whole
from mmkd_jax.errors import UserError, choices


def branches(models: Mapping[str, Model]) -> Model:
    """Combine several models into one that is trained jointly; its logits are the mean of the branches' logits.

    Each branch receives the whole batch. Its outputs are named `BRANCH.NAME`, and a patch of that name is passed to
    that branch. To average frozen models, see `core.ensemble`.

    Args:
        models: branch name -> Model with an output `logits`.

    Returns:
        A Model with all outputs of its branches, and `logits`, which has the names of the branches' classes.

    Raises:
        UserError: `models` is empty, a branch needs variables of another model, or branches have other classes, in
            another order, or another problem.

    Example:
        >>> from mmkd_jax.models import AudioTDNN, Multimodal
        >>> from mmkd_jax.core.model import linen
        >>> small = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))
        >>> model = branches({"seen": small, "imagined": small})
    """
    if not models:
        raise UserError("branches: no models were given; pass {name: model}")
    if needy := [n for n, m in models.items() if m.needs]:
        raise UserError(f"branches: {choices(needy)} needs variables of another model, which a branch cannot take")
    check_whole("branches", models)
    labels, problem = one_problem("branches", models)

    def init(key, batch):
        ctx = StepContext(0, key)
        variables = {n: dict(m.init(ctx.at(n).key, batch)) for n, m in models.items()}
        return {"params": {n: v.pop("params") for n, v in variables.items()}, "state": variables}

    def apply(variables, batch, ctx, patch):
        if unknown := {k for k in patch if k != "logits" and k.partition(".")[0] not in models}:
            raise UserError(f"patch {choices(unknown)}: no such branch; the branches are: {choices(models)}")
        outputs, state = {}, {}
        for n, m in models.items():
            branch = {"params": variables["params"][n], **variables["state"][n]}
            inner = {k.removeprefix(f"{n}."): x for k, x in patch.items() if k.startswith(f"{n}.")}
            branch_outputs, state[n] = m.apply(branch, batch, ctx.at(n), inner)
            outputs |= {f"{n}.{k}": x for k, x in branch_outputs.items()}
        mean = sum(outputs[f"{n}.logits"] for n in models) / len(models)
        return outputs | {"logits": patch.get("logits", mean)}, {"state": state} if ctx.train else {}

    fixed = next((m.fixed for m in models.values() if m.fixed), "")
    per_class = ("logits", *[f"{n}.{k}" for n, m in models.items() for k in m.class_outputs])
    return Model(init, apply, fixed, labels=labels, problem=problem, class_outputs=per_class)
