"""The batch and every model's outputs on it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mmkd_jax.core.model import Batch, Model, ModelOutputs, StepContext
from mmkd_jax.errors import MissingOutput, UserError, choices


def output_of(outputs: ModelOutputs, name: str, model: str) -> Any:
    """Return one output of an additional forward pass.

    Raises:
        MissingOutput: the model does not have this output.
    """
    if name not in outputs:
        message = f"model {model!r} has no output {name!r}; it has: {choices(outputs)}"
        raise MissingOutput(message, model=model, output=name)
    return outputs[name]


class _Runs(dict):
    """Additional forward passes by model name; an unknown name raises a UserError on access."""

    def __missing__(self, name):
        if not self:
            raise UserError(
                f"cannot run model {name!r} again: these outputs were created without models; create them with forward"
            )
        raise UserError(f"cannot run model {name!r} again: it does not exist; there are: {choices(self)}")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The batch and every model's outputs on it; index with "student.logits" or "batch.label".

    Attributes:
        batch: flat dict: "label", "present.audio", …
        by_model: model name -> its outputs on the batch.
        run: model name -> `(batch, patch={}, train=…) -> outputs`: additional forward passes. They reuse the key of
            the first pass, so that dropout masks agree, and never update BatchNorm statistics.
        ctx: the step's context.
        scope: dotted name of the term that reads.
        record: callback `(scope, path)` for each path that is read; used by `mmkd explain`.
    """

    batch: Batch
    by_model: Mapping[str, ModelOutputs]
    run: Mapping[str, Callable]
    ctx: StepContext
    scope: str = ""
    record: Callable[[str, str], None] = lambda scope, path: None

    def __post_init__(self):
        object.__setattr__(self, "run", _Runs(self.run))

    def __getitem__(self, path: str):
        model, _, name = path.partition(".")
        if model != "batch" and model not in self.by_model:
            raise UserError(f"path {path!r}: no outputs {model!r}; there are: {choices(['batch', *self.by_model])}")
        values = self.batch if model == "batch" else self.by_model[model]
        if name not in values:
            message = f"path {path!r}: {model!r} has no {name!r}; it has: {choices(values)}"
            raise MissingOutput(message, model=model, output=name)
        self.record(self.scope, path)
        return values[name]

    def at(self, name: str) -> "Outputs":
        """Return these outputs with the key and the scope of the term `name`."""
        scope = f"{self.scope}.{name}" if self.scope else name
        return dataclasses.replace(self, ctx=self.ctx.at(name), scope=scope)

    def add(self, **outputs: ModelOutputs) -> "Outputs":
        """Return these outputs with additional ones, such as a model's outputs on an attacked batch."""
        return dataclasses.replace(self, by_model={**self.by_model, **outputs})


def forward(
    models: Mapping[str, Model], variables: Mapping[str, Any], batch: Batch, ctx: StepContext, trained=("student",)
) -> tuple[Outputs, dict[str, Any]]:
    """Run each model once on the batch; models outside `trained` run with train=False.

    Args:
        models: name -> Model.
        variables: name -> variables.
        batch: flat dict of arrays with leading axis b.
        ctx: the step's context.
        trained: names of the models whose BatchNorm and dropout are in training mode if `ctx.train`.

    Returns:
        The outputs, and name -> new BatchNorm statistics of each trained model. XLA drops unused outputs.
    """
    outputs, states, run = {}, {}, {}
    for name, model in models.items():
        model_ctx = ctx.at(name)._replace(train=ctx.train and name in trained, where=batch.get("valid"))
        outputs[name], states[name] = model.apply(variables[name], batch, model_ctx, {})
        run[name] = _rerun(model, variables[name], model_ctx)
    return Outputs(batch, outputs, run, ctx), {n: s for n, s in states.items() if n in trained}


def _rerun(model, variables, ctx):
    def run(batch, patch=None, train=ctx.train):
        if model.fixed:
            raise UserError(model.fixed)
        return model.apply(variables, batch, ctx._replace(train=train, where=batch.get("valid")), patch or {})[0]

    return run
