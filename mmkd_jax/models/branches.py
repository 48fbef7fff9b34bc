"""Several models as one that is trained whole."""

from collections.abc import Mapping

from mmkd_jax.errors import UserError, choices
from mmkd_jax.views import Context, Model


def branches(models: Mapping[str, Model]) -> Model:
    """Models side by side, trained as one; its logits are the mean of theirs.

    Each sees the batch, and what it gives is called `BRANCH.NAME`. A patch of such a name reaches its branch. To
    average frozen models, see `teacher.ensemble`.

    Args:
        models: name of a branch -> Model with an output `logits`.

    Returns:
        A Model with all outputs of its branches and `logits`.

    Raises:
        UserError: no branch, or one that takes variables of another model.

    Example:
        >>> from mmkd_jax.models import AudioTDNN, Multimodal
        >>> from mmkd_jax.views import linen
        >>> small = linen(Multimodal({"audio": AudioTDNN((16, 16))}, classes=10, width=16))
        >>> model = branches({"seen": small, "imagined": small})
    """
    if not models:
        raise UserError("branches: there is none; give {name: model}")
    if needy := [n for n, m in models.items() if m.needs]:
        raise UserError(f"branches: {choices(needy)} takes another model's variables, which a branch cannot")

    def init(key, batch):
        ctx = Context(0, key)
        made = {n: dict(m.init(ctx.at(n).key, batch)) for n, m in models.items()}
        return {"params": {n: v.pop("params") for n, v in made.items()}, "state": made}

    def apply(variables, batch, ctx, patch):
        if unknown := {k for k in patch if k != "logits" and k.partition(".")[0] not in models}:
            raise UserError(f"patch {choices(unknown)}: there is no such branch; there are: {choices(models)}")
        outputs, moved = {}, {}
        for n, m in models.items():
            own = {"params": variables["params"][n], **variables["state"][n]}
            inner = {k.removeprefix(f"{n}."): x for k, x in patch.items() if k.startswith(f"{n}.")}
            given, moved[n] = m.apply(own, batch, ctx.at(n), inner)
            outputs |= {f"{n}.{k}": x for k, x in given.items()}
        mean = sum(outputs[f"{n}.logits"] for n in models) / len(models)
        return outputs | {"logits": patch.get("logits", mean)}, {"state": moved} if ctx.train else {}

    fixed = next((m.fixed for m in models.values() if m.fixed), "")
    return Model(init, apply, fixed)
