"""Declarative description of one training: models, objective, optimizer, data and schedule. Computes nothing."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from mmkd_jax import files
from mmkd_jax.core.aggregator import Aggregator
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import Batch, Model, StepContext, cached, predict
from mmkd_jax.core.objective import Objective, combine
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.state import Distillation, augmented_spec, completed, init_state, initial_variables, variables
from mmkd_jax.core.step import make_step
from mmkd_jax.core.task import Task
from mmkd_jax.core.tuning import joined, whole
from mmkd_jax.data.loader import Loader, check_loader
from mmkd_jax.data.preprocess import Preprocessing, Step
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training import class_names, declared_steps
from mmkd_jax.training.lowered import program_hash
from mmkd_jax.training.roles import Frozen, MovingAverage, Role, Source, Trained, check_roles
from mmkd_jax.training.teacher_cache import CacheSpec, Store, check_rows


def _classes(loader):
    return tuple(getattr(loader.dataset, "about", {}).get("classes", ()))


_KEY = jax.eval_shape(lambda: jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class Training:
    """One training run of an experiment, for each seed.

    Attributes:
        models: name -> the model's role: `Trained(model)`, `Frozen(model)` or `MovingAverage(of=NAME, decay=…)`.
        objective: the loss to minimize.
        optimizer: an optax transformation.
        task: the metrics, and the labels they need.
        data: training data.
        validation: evaluated for early stopping and to select the best step.
        test: evaluated once, after training, with the selected variables.
        steps: number of updates.
        evaluate: name of the model to evaluate; "" is the first trained one.
        gradients: gradient aggregator, such as `gradients.pcgrad()`; None takes the gradient of the sum of the terms.
        augment: `(batch, ctx) -> batch`, such as `augment.Compose(…)`, applied once to each training batch, so that
            teacher and student see the same augmented view.
        microbatches: number of microbatches that each batch is split into (gradient accumulation).
        evaluate_every: steps between two evaluations on validation, each one row of the learning curve.
        patience: stop after this many evaluations without improvement; None disables early stopping.
        select: step whose variables are the result: the "best" on validation, or the "last". Use "last" if the
            evaluated output is not trained yet (a hint stage), or if labels must not be used.
        save_every: steps between two checkpoints.
        keep_last: number of newest checkpoints to keep.
        keep_best: number of checkpoints with the best validation metric to keep as well, with the whole state; the best
            variables alone are in every checkpoint.
        keep_every: also keep checkpoints whose step is a multiple of this; None disables it.
        preprocess: name of a raw input -> steps of `data.preprocess` to columns of the data, which a student takes
            along; they replace those that the data set declares for these columns.
    """

    models: Mapping[str, Role]
    objective: Objective
    optimizer: optax.GradientTransformation
    task: Task
    data: Loader
    validation: Loader
    test: Loader
    steps: int
    evaluate: str = ""
    gradients: Aggregator | None = None
    augment: Callable[[Batch, StepContext], Batch] | None = None
    microbatches: int = 1
    evaluate_every: int = 100
    patience: int | None = None
    select: str = "best"
    save_every: int = 1_000
    keep_last: int = 2
    keep_best: int = 0
    keep_every: int | None = None
    preprocess: Mapping[str, Sequence[Step]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_roles(self.models)
        for name in ("data", "validation", "test"):
            check_loader(getattr(self, name), name)
        if not self.evaluate:
            object.__setattr__(self, "evaluate", (self.trained or tuple(self.models))[0])
        splits = {f"the {name} data": _classes(getattr(self, name)) for name in ("validation", "test")}
        class_names.check_one_order(self.classes, self.task, splits)
        _ = self.preprocessing
        if self.evaluate in self.cache:
            raise UserError(
                f"evaluate is {self.evaluate!r}, whose outputs are cached for the training data: omit its cache, or "
                "evaluate it alone, with Training.evaluation(…)"
            )
        if self.evaluate not in self.models:
            raise UserError(f"evaluate is {self.evaluate!r}; the models are: {choices(self.models)}")
        if self.select not in ("best", "last"):
            raise UserError(f"select is {self.select!r}; expected 'best' or 'last'")
        counts = {"steps": self.steps, "evaluate_every": self.evaluate_every, "save_every": self.save_every}
        counts |= {"keep_last": self.keep_last, "keep_every": 1 if self.keep_every is None else self.keep_every}
        if wrong := {k: v for k, v in counts.items() if v < 1}:
            raise UserError(f"{', '.join(f'{k}={v}' for k, v in wrong.items())}: expected at least 1")
        if self.steps >= 2**31 or self.steps * self.data.batch_size // max(self.data.size, 1) >= 2**31:
            raise UserError(
                f"steps={self.steps} of {self.data.batch_size} of {self.data.size} rows: steps and epochs are counted "
                f"up to {2**31 - 1}"
            )
        if self.keep_every is not None and self.keep_every % self.save_every:
            raise UserError(
                f"keep_every={self.keep_every} is not a multiple of save_every={self.save_every}: "
                "those steps have no checkpoint"
            )
        if self.select == "last" and self.patience is not None:
            raise UserError("patience needs a best step, which select='last' does not have: remove one of them")
        if self.augment is not None and self.cache and self.data.num_views is None:
            raise UserError(
                f"cache stores outputs of {choices(self.cache)}, but augment makes a new view of each row in every "
                "epoch: give the training loader a number of views, such as num_views=16, or remove cache"
            )

    @classmethod
    def evaluation(cls, model: Any, task: Task, validation: Loader, test: Loader, name: str = "teacher") -> "Training":
        """Return a training that evaluates a frozen model and trains nothing, for the model's row in the table.

        Args:
            model: the frozen model, or a pretrained one.
            task: the metrics, and the labels they need.
            validation: validation data.
            test: test data.
            name: name of the model.

        Example:
            >>> from mmkd_jax import core, data, tasks
            >>> rows = data.from_columns({"x": np.eye(2, dtype=np.float32), "label": np.arange(2)}, "two")
            >>> ready = Frozen(core.model.plain(lambda _, batch: {"logits": batch["x"]}))
            >>> Training.evaluation(ready, tasks.classification(2), *[data.InMemory(rows, 2)] * 2).evaluate
            'teacher'
        """
        role = model if isinstance(model, Frozen) else Frozen(model)
        models = {name: dataclasses.replace(role, cache=None)}
        objective, optimizer = combine(), optax.identity()
        return cls(models, objective, optimizer, task, validation, validation, test, steps=1, select="last")

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the trained models."""
        return tuple(n for n, role in self.models.items() if isinstance(role, Trained))

    @property
    def same_for_all_seeds(self) -> bool:
        """Whether it trains nothing, and takes no variables from another training, so that its result has no spread."""
        return not self.trained and not any(isinstance(source, str) for source in self.init_from.values())

    @functools.cached_property
    def merged(self) -> "Training":
        """The same training with the whole model in place of each partly trained one, for its result."""
        roles: Any = {n: r for n, r in self.models.items() if isinstance(r, Trained)}
        wholes = {n: dataclasses.replace(r, model=whole(r.model)) for n, r in roles.items() if r.model.tuning}
        return dataclasses.replace(self, models={**self.models, **wholes}) if wholes else self

    def result(self, own: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of the models of a state, those of a partly trained one as of the whole."""
        every = completed(own, frozen)
        return {n: joined(self.networks[n], every[n]) for n in own}

    @functools.cached_property
    def networks(self) -> dict[str, Model]:
        """Name -> Model; a moving average has the Model of the model that it averages."""
        roles: Any = {n: self.models[r.of] if isinstance(r, MovingAverage) else r for n, r in self.models.items()}
        return {n: class_names.matched(r.model, r.labels, self.classes) for n, r in roles.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the data's classes, in the order of its labels, or those of the task; empty if unknown.

        Those of the data are of the column "label", and are not those of a task with other labels.
        """
        return (_classes(self.data) if self.task.label in ("", "label") else ()) or self.task.classes

    @functools.cached_property
    def preprocessing(self) -> tuple[Preprocessing, ...]:
        """Steps from raw inputs to columns of the data: those of the data set, and of `preprocess`."""
        return declared_steps.declared(self.data.dataset, self.preprocess)

    @functools.cached_property
    def init_from(self) -> dict[str, Source]:
        """Name of a model, or dotted path within it -> source of its variables."""
        roles: Any = {n: r for n, r in self.models.items() if not isinstance(r, MovingAverage)}
        return {k: v for n, r in roles.items() for k, v in r.sources(n).items()}

    @functools.cached_property
    def layers(self) -> dict[str, Callable[[Any, Any], Any]]:
        """Name -> selection of the layers that a model starts from."""
        roles: Any = {n: r for n, r in self.models.items() if not isinstance(r, MovingAverage)}
        return {n: r.layers for n, r in roles.items() if r.layers is not None}

    @functools.cached_property
    def cache(self) -> dict[str, CacheSpec]:
        """Name -> cached outputs of a frozen model."""
        return {n: r.cache_spec for n, r in self.models.items() if isinstance(r, Frozen) and r.cache_spec is not None}

    def without_cache(self) -> "Training":
        """Return a copy whose frozen models run in every step."""
        models = {n: dataclasses.replace(r, cache=None) if isinstance(r, Frozen) else r for n, r in self.models.items()}
        return dataclasses.replace(self, models=models)

    @functools.cached_property
    def distillation(self) -> Distillation:
        """Components of the step; cached models read their outputs from the batch."""
        return Distillation(
            models={n: cached(n) if n in self.cache else m for n, m in self.networks.items()},
            objective=self.objective,
            optimizer=self.optimizer,
            trained=self.trained,
            ema={n: (r.of, r.decay) for n, r in self.models.items() if isinstance(r, MovingAverage)},
            gradients=self.gradients,
            augment=self.augment,
            inherit=self.layers,
        )

    @functools.cached_property
    def step(self) -> Callable:
        """Training step from `make_step`, traced once and shared."""
        return jax.jit(make_step(self.distillation, self.microbatches), static_argnames="axis_name", inline=True)

    @functools.cached_property
    def start(self) -> Callable:
        """`(key, variables, hyperparams) -> (state, frozen)`, traced once and shared."""
        spec = self.spec
        return jax.jit(
            lambda key, variables, hyperparams: init_state(self.distillation, spec, key, variables, hyperparams),
            inline=True,
        )

    @property
    def reads(self) -> dict[str, list[str]]:
        """Scope of a term -> paths that it reads, masks included, by abstract evaluation."""
        return self._traced[0]

    @property
    def hyperparams(self) -> dict[str, Any]:
        """Hyperparameters of the objective, and those of the gradient aggregator ("gradients.NAME") -> value."""
        return self._traced[1]

    @functools.cached_property
    def _traced(self) -> tuple[dict[str, list[str]], dict[str, Any]]:
        found: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        spec, distillation = augmented_spec(self.augment, self.spec), self.distillation

        def record(scope, path):
            paths = found.setdefault(scope, [])
            if path not in paths:
                paths.append(path)

        def trace(key):
            state, frozen = init_state(distillation, self.spec, key)
            given = hyperparams_of(state.objective_state) | hyperparams_of({"gradients": state.aggregator_state})
            values.update({k: v for k, v in given.items() if isinstance(v, np.generic)})
            batch = {k: jax.numpy.zeros(s.shape, s.dtype) for k, s in spec.items()}
            ctx = StepContext(state.step, key)
            outputs, _ = forward(distillation.models, variables(state, frozen), batch, ctx, distillation.trained)
            watched = dataclasses.replace(outputs, record=record)
            self.objective.apply(state.params["objective"], state.objective_state, watched)

        jax.eval_shape(trace, _KEY)
        return found, values  # constants of the file, so they are concrete even under tracing

    def shapes(self, name: str) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
        """Return the shapes of a model's variables and of its (augmented) training batch."""
        batch = augmented_spec(self.augment, self.data.spec)

        def init(key):
            return self.networks[name].init(key, {k: jax.numpy.zeros(s.shape, s.dtype) for k, s in batch.items()})

        return jax.eval_shape(init, _KEY), batch

    def initial(self, name: str) -> Callable[[Any], Any]:
        """Return `(key) -> variables` of a model's own `init`, as `init_state` calls it."""
        batch = augmented_spec(self.augment, self.data.spec)

        def init(key):
            zeros = {k: jax.numpy.zeros(s.shape, s.dtype) for k, s in batch.items()}
            return initial_variables(name, self.networks[name], key, zeros, {})

        return init

    def own_variables(self, name: str, seed: int) -> Any:
        """Return the variables that a model's own `init` gives a seed."""
        return jax.jit(self.initial(name))(jax.random.key(seed))

    def run(self, name: str) -> Callable:
        """Return `(variables, batch) -> outputs` of a model, with train=False."""

        def run(variables, batch):
            return predict(self.networks[name], variables, batch)

        return run

    def outputs(self, name: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of a model's outputs, by abstract evaluation."""
        return dict(jax.eval_shape(self.run(name), *self.shapes(name)))

    def program(self, name: str) -> str:
        """Return the SHA-256 of a model's lowered program, without variables."""
        return program_hash(self.run(name), *self.shapes(name))

    @property
    def augment_fingerprint(self) -> Any:
        """Identity of `augment`: its fingerprint, or the SHA-256 of its program."""
        known = getattr(self.augment, "fingerprint", None)
        if self.augment is None or known is not None:
            return known
        ctx = jax.eval_shape(lambda: StepContext(jax.numpy.int32(0), jax.random.key(0)))
        augment = self.augment
        return program_hash(lambda batch, step, key: augment(batch, StepContext(step, key)), self.data.spec, *ctx[:2])

    @property
    def num_views(self) -> int:
        """Number of augmented views of each row that are cached; 1 without augmentation."""
        return 1 if self.augment is None else self.data.num_views or 1

    def records(self, name: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the cached outputs of a model as columns of a batch (shapes and dtypes)."""
        if name not in self.models:
            raise UserError(f"cache names model {name!r}; models are: {choices(self.models)}")
        outputs = self.outputs(name)
        check_rows(self.cache[name], name, outputs, self.run(name), *self.shapes(name))
        return self.cache[name].columns(name, outputs)

    @property
    def data_with_cache(self) -> Loader:
        """Training data with the cached outputs as columns, which have shapes but no values."""
        shapes = {k: s for n in self.cache for k, s in self.records(n).items()}
        if not shapes:
            return self.data
        size = (self.num_views, self.data.size)
        records: Any = {k: jax.ShapeDtypeStruct((*size, *s.shape[1:]), s.dtype) for k, s in shapes.items()}
        return self.data.with_records(records, {})

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch, including cached outputs."""
        return dict(self.data_with_cache.spec)

    def store(self, name: str, teacher: Mapping[str, Any], directory: str | os.PathLike) -> Store:
        """Return the store of a cached model's outputs, with the manifest that its files must match.

        Args:
            name: name of the cached model.
            teacher: identity of its variables.
            directory: directory of the records.
        """
        spec, partners = self.cache[name], self.data.partners
        how = {"outputs": list(spec.outputs), "dtype": spec.dtype, "top_k": spec.top_k}
        how |= {"temperature": spec.temperature} if spec.top_k else {}
        about = {"teacher": dict(teacher), "kept": how, "data": dict(self.data.dataset.fingerprint)}
        if self.augment is not None:
            about |= {"augment": self.augment_fingerprint, "partners": None if partners is None else repr(partners)}
        rows = {k: jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for k, s in self.records(name).items()}
        return Store(directory, files.as_json(about), rows, self.num_views, self.data.size)

    def check_step(self, state: Any, frozen: Any) -> None:
        """Trace the step; raises for extra passes or batch statistics that do not support microbatches."""
        jax.eval_shape(self.step, state, frozen, self.spec)

    def abstract(
        self, hyperparams: Mapping[str, Any] | None = None, initial_variables: Mapping[str, Any] | None = None
    ):
        """Return the shapes of the state and the frozen variables; raises for wrong paths, before any data is read."""
        for name, model in self.networks.items():
            if missing := [c for c in model.needs if not {name, f"{name}.{c}"} & set(self.init_from)]:
                raise UserError(
                    f"model {name!r} does not define {choices(missing)}: give it the variables of another model, as in "
                    f'init_from={{"{missing[0]}": "TRAINING.MODEL.params.…"}}'
                )
        initialize: Callable = functools.partial(self.start, hyperparams={})
        if hyperparams:  # as constants, so that invalid values raise
            initialize = functools.partial(init_state, self.distillation, self.spec, hyperparams=hyperparams)
        try:
            found = jax.eval_shape(initialize, _KEY, variables=dict(initial_variables or {}))
        except UserError as error:
            class_names.check_read(self, {f"{n}.logits" for n in self.models}, f"{error}; ")
            raise
        read = {path for each in self.reads.values() for path in each}
        class_names.check_read(self, read | class_names.read_by_task(self))
        return found
