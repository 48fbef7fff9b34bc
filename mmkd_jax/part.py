"""A part of an experiment: who learns from what, on which data, for how long. Built without computing anything."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from mmkd_jax.cache import Kept, Store
from mmkd_jax.data.memory import Memory
from mmkd_jax.data.reader import Reader
from mmkd_jax.errors import UserError, choices
from mmkd_jax.given import Given
from mmkd_jax.objective import Objective
from mmkd_jax.parallel import is_bank
from mmkd_jax.schemes.scheme import Scheme
from mmkd_jax.state import Distillation, augmented_spec, start
from mmkd_jax.step import make_step
from mmkd_jax.tasks import Task
from mmkd_jax.views import Batch, Context, Model, cached

_KEY = jax.eval_shape(lambda: jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class Part:
    """One training run of an experiment, for each seed.

    Attributes:
        models: name -> Model.
        objective: what is to be made small.
        optimizer: an optax transformation.
        task: what the evaluated model is measured by.
        data: what it learns from.
        validation: what early stopping and the choice of the best step look at.
        test: looked at once, at the end, with the variables that did best on validation.
        steps: updates.
        trained: names of the trained models; the others are frozen.
        evaluated: name of the measured model; the first trained one by default.
        ema: name -> (source, decay): models that are the moving average of a trained one.
        take: name -> "PART.NAME": a model that takes the variables with which that part ended, for the same seed. With
            dots, a part of a model: "student.head" -> "teacher.teacher.params.Classifier_0". Or name -> `Given`:
            variables from outside, such as `pretrained.given("teacher", loaded)` gives.
        inherit: name -> `pretrained.inheritance.Inheritance`: a model that takes variables begins with chosen layers,
            heads or channels of them, instead of all. `mmkd explain` says which.
        cache: name -> outputs of a frozen model that are computed once for all rows (and slots, where there is
            augmentation) and kept on disk; the model is then not run again. Names, or a `Kept` that says how exactly.
        scheme: what becomes of the gradients of single terms; None is one gradient of their sum.
        augment: `(batch, ctx) -> batch`, such as `augment.Augmented(…)`, applied once to each training batch before all
            models: teacher and student see the same.
        microbatches: parts in which a batch goes through the models.
        evaluate_every: steps between two looks at validation, and between two lines of the learning curve.
        patience: looks without improvement after which training ends; None is all steps.
        keep: which variables the part ends with: of the step that did "best" on validation, or of the "last" one. Where
            the measured output is not yet trained (a hint's stage), or no label may be looked at, best says nothing.
        save_every: steps between two checkpoints.
        keep_last: how many of the newest checkpoints are kept.
        keep_best: how many of those with the best metric on validation are kept besides, whole, for whoever wants to go
            on from there; the best variables alone are in every checkpoint.
        keep_every: the checkpoints of every so many steps are kept, too; None is none of them.
    """

    models: Mapping[str, Model]
    objective: Objective
    optimizer: optax.GradientTransformation
    task: Task
    data: Reader
    validation: Reader
    test: Reader
    steps: int
    trained: tuple[str, ...] = ("student",)
    evaluated: str = ""
    ema: Mapping[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    take: Mapping[str, str | Given] = dataclasses.field(default_factory=dict)
    inherit: Mapping[str, Callable[[Any, Any], Any]] = dataclasses.field(default_factory=dict)
    cache: Mapping[str, tuple[str, ...] | Kept] = dataclasses.field(default_factory=dict)
    scheme: Scheme | None = None
    augment: Callable[[Batch, Context], Batch] | None = None
    microbatches: int = 1
    evaluate_every: int = 100
    patience: int | None = None
    keep: str = "best"
    save_every: int = 1_000
    keep_last: int = 2
    keep_best: int = 0
    keep_every: int | None = None

    def __post_init__(self):
        if self.keep not in ("best", "last"):
            raise UserError(f"keep is {self.keep!r}; expected 'best' or 'last'")
        counts = {"steps": self.steps, "evaluate_every": self.evaluate_every, "save_every": self.save_every}
        counts |= {"keep_last": self.keep_last, "keep_every": 1 if self.keep_every is None else self.keep_every}
        if wrong := {k: v for k, v in counts.items() if v < 1}:
            raise UserError(f"{', '.join(f'{k}={v}' for k, v in wrong.items())}: expected at least 1")
        if self.keep_every is not None and self.keep_every % self.save_every:
            raise UserError(
                f"keep_every={self.keep_every} is no multiple of save_every={self.save_every}: nothing is saved there"
            )
        if bare := set(self.inherit) - (set(self.take) & set(self.models)):
            raise UserError(f"inherit names {choices(bare)}, no model that takes variables: say whose with take=")
        if both := set(self.inherit) & (set(self.cache) | set(self.ema)):
            raise UserError(f"inherit names {choices(both)}, which is cached or a moving average: it begins as a whole")
        if self.keep == "last" and self.patience is not None:
            raise UserError("keep='last' looks at no best step, which patience does: leave one of them out")
        if self.augment is not None and self.cache and getattr(self.data, "slots", None) is None:
            raise UserError(
                f"cache holds outputs of {choices(self.cache)}, and augment shows other versions of each row without "
                "end: give the training reader a number of them, slots=16, or leave cache out"
            )

    @property
    def measured(self) -> str:
        """Name of the model that is measured."""
        return self.evaluated or self.trained[0]

    @functools.cached_property
    def distillation(self) -> Distillation:
        """What a step needs; cached models stand in for those that are not run again."""
        if wrong := set(self.cache) & (set(self.trained) | set(self.ema)):
            raise UserError(
                f"cache names {choices(wrong)}, which changes in training: only frozen models can be cached"
            )
        models = {n: cached(n) if n in self.cache else m for n, m in self.models.items()}
        how = self.scheme, self.augment, self.inherit
        return Distillation(models, self.objective, self.optimizer, self.trained, self.ema, *how)

    @functools.cached_property
    def step(self) -> Callable:
        """The step, from `make_step`, traced once for all that use it."""
        return jax.jit(make_step(self.distillation, self.microbatches), static_argnames="axis", inline=True)

    @functools.cached_property
    def start(self) -> Callable:
        """`(key, variables, numbers) -> (state, frozen)`, traced once for all that use it."""
        spec = self.spec
        return jax.jit(
            lambda key, variables, numbers: start(self.distillation, spec, key, variables, numbers), inline=True
        )

    def shapes(self, name: str) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
        """Shapes of a model's variables, and of the batch that it sees in training."""
        batch = augmented_spec(self.augment, self.data.spec)

        def init(key):
            return self.models[name].init(key, {k: jax.numpy.zeros(s.shape, s.dtype) for k, s in batch.items()})

        return jax.eval_shape(init, _KEY), batch

    def run(self, name: str) -> Callable:
        """`(variables, batch) -> outputs` of a model that is not trained on them."""

        def run(variables, batch):
            ctx = Context(jax.numpy.int32(0), jax.random.key(0), train=False)
            return self.models[name].apply(variables, batch, ctx, {})[0]

        return run

    def outputs(self, name: str) -> dict[str, jax.ShapeDtypeStruct]:
        """A model's outputs, from shapes alone."""
        return dict(jax.eval_shape(self.run(name), *self.shapes(name)))

    def program(self, name: str) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of what a model computes: its program, without its variables."""
        return hashlib.sha256(jax.jit(self.run(name)).lower(*self.shapes(name)).as_text().encode()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """What `augment` and variables from outside add to the fingerprint of the data."""
        own: dict[str, Any] = {f"take {n}": s.fingerprint for n, s in self.take.items() if isinstance(s, Given)}
        if self.augment is not None:
            own["augment"] = getattr(self.augment, "fingerprint", None) or repr(self.augment)
        return own

    @property
    def kept(self) -> dict[str, Kept]:
        """How each cached model's outputs are kept."""
        return {n: k if isinstance(k, Kept) else Kept(k) for n, k in self.cache.items()}

    @property
    def slots(self) -> int:
        """Versions of each row for which a cached model answers: one without augmentation."""
        return 1 if self.augment is None else getattr(self.data, "slots", None) or 1

    def records(self, name: str) -> dict[str, jax.ShapeDtypeStruct]:
        """What is kept of a cached model's outputs on a batch, as columns of the batch."""
        if name not in self.models:
            raise UserError(f"cache names model {name!r}; there are: {choices(self.models)}")
        return self.kept[name].columns(name, self.outputs(name))

    @property
    def reader(self) -> Reader:
        """The training data with the records of cached models, known by their shapes alone."""
        shapes = {k: s for n in self.cache for k, s in self.records(n).items()}
        if not shapes:
            return self.data
        size = (self.slots, self.data.size)
        records: Any = {k: jax.ShapeDtypeStruct((*size, *s.shape[1:]), s.dtype) for k, s in shapes.items()}
        return self.data.with_records(records, {})

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch, cached outputs included."""
        return dict(self.reader.spec)

    def store(self, name: str, teacher: Mapping[str, Any], directory: str | os.PathLike) -> Store:
        """Where a cached model's records lie, and what they must be of.

        Args:
            name: of the model.
            teacher: what identifies its variables.
            directory: of the records.
        """
        kept, partners = self.kept[name], getattr(self.data, "partners", None)
        how = {"outputs": list(kept.outputs), "dtype": kept.dtype, "top_k": kept.top_k}
        how |= {"temperature": kept.temperature} if kept.top_k else {}
        about = {"teacher": dict(teacher), "kept": how, "data": dict(self.data.dataset.fingerprint)}
        if self.augment is not None:
            about |= {"augment": self.identity["augment"], "partners": None if partners is None else repr(partners)}
        rows = {k: jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for k, s in self.records(name).items()}
        return Store(directory, about, rows, self.slots, self.data.size)

    def check_data(self) -> None:
        """Refuse labels that the task cannot have, and banks that do not hold all examples."""
        for reader in (self.data, self.validation, self.test):
            if isinstance(reader, Memory):  # a reader that streams is checked batch by batch
                self.task.check(reader.dataset.columns)
        self.check_banks()

    def check_banks(self, read: bool = True) -> None:
        """Refuse training data with an example beyond a memory bank: its row would be another example's, or none.

        Args:
            read: look at the data where they lie in memory; False goes by the number of rows alone.
        """
        memory = self.abstract()[0].memory
        banks = [(p, len(x)) for p, x in jax.tree.leaves_with_path(memory) if is_bank(p, x)]
        if not banks:
            return
        known, size = read and isinstance(self.data, Memory), self.data.dataset.size
        largest = int(self.data.dataset.columns["example_id"].max()) if known else size - 1  # a stream is not read
        for path, rows in banks:
            if largest >= rows:
                name = jax.tree_util.keystr(path, simple=True, separator=".").partition(".bank")[0]
                said = f"goes to {largest}" if known else f"goes to {largest}, as the data set has {size} rows"
                raise UserError(
                    f"term {name!r}: its bank has {rows} rows, but example_id of the training data {said}: "
                    f"give it size={largest + 1}"
                )

    def check_step(self, state: Any, frozen: Any) -> None:
        """Refuse what only a step does: further passes or statistics of the batch under microbatches."""
        jax.eval_shape(self.step, state, frozen, self.spec)

    def abstract(self, numbers: Mapping[str, Any] | None = None, given: Mapping[str, Any] | None = None):
        """The state and the frozen variables from shapes alone: refuses every wrong path, before any data is read."""
        for name, model in self.models.items():
            if missing := [c for c in model.needs if not {name, f"{name}.{c}"} & set(self.take)]:
                raise UserError(
                    f"model {name!r} has no {choices(missing)} of its own: say whose it takes, as in "
                    f'take={{"{name}.{missing[0]}": "PART.NAME.params.…"}}'
                )

        if not numbers:
            return jax.eval_shape(self.start, _KEY, dict(given or {}), {})
        # as constants: a wrong one is refused
        begin = functools.partial(start, self.distillation, self.spec, numbers=numbers)
        return jax.eval_shape(begin, _KEY, dict(given or {}))
