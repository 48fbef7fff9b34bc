"""Settings shared by all trainings of a recipe, and helpers that build those trainings."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import optax

from mmkd_jax import losses
from mmkd_jax.core.model import Model
from mmkd_jax.core.objective import Objective, combine, term
from mmkd_jax.core.task import Task
from mmkd_jax.data.loader import Loader
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training


@dataclasses.dataclass(frozen=True)
class Setting:
    """Settings shared by all trainings of a recipe: `recipes.NAME(setting) -> {name: Training}`.

    Attributes:
        task: the task of all models: objective and metrics.
        labeled_data: loader of the labeled rows.
        all_data: loader of all rows, labeled and unlabeled.
        validation: validation data, used to select the best checkpoint.
        test: test data, evaluated once, after training.
        model: `(modalities, size) -> Model`; `size` is one of `sizes`.
        optimizer: `(size, steps) -> optax transformation`.
        steps: number of updates of a student.
        modalities: all modalities of the data.
        seen: modalities that the student sees at inference.
        sizes: names of model sizes, from the teacher's to the student's.
        teacher_steps: number of updates of a teacher or a teacher assistant; 0 is the same as `steps`.
        labelled: name of the mask of labeled rows in `all_data`; None means that all rows are labeled.
        temperature: temperature of the KL to a teacher.
        cached: cache the teacher's outputs for all rows instead of running it in every step.
        evaluate_every: steps between two validation evaluations.
        save_every: steps between two checkpoints.
    """

    task: Task
    labeled_data: Loader
    all_data: Loader
    validation: Loader
    test: Loader
    model: Callable[[tuple[str, ...], str], Model]
    optimizer: Callable[[str, int], optax.GradientTransformation]
    steps: int
    modalities: tuple[str, ...]
    seen: tuple[str, ...]
    sizes: tuple[str, ...] = ("large", "small")
    teacher_steps: int = 0
    labelled: str | None = "labelled"
    temperature: float = 2.0
    cached: bool = True
    evaluate_every: int = 100
    save_every: int = 1_000

    def __post_init__(self):
        if len(self.sizes) < 2:
            raise UserError(f"sizes are {choices(self.sizes)}; expected at least the teacher's and the student's")
        if not self.seen or not set(self.seen) <= set(self.modalities):
            raise UserError(
                f"seen are {choices(self.seen)}; expected some of the modalities {choices(self.modalities)}"
            )

    @property
    def unseen(self) -> tuple[str, ...]:
        """Modalities that the student lacks at inference.

        Raises:
            UserError: the student sees all modalities.
        """
        unseen = tuple(m for m in self.modalities if m not in self.seen)
        if not unseen:
            raise UserError(
                f"the student sees all modalities, {choices(self.modalities)}; the recipe is for a student "
                "that lacks some: list fewer in seen="
            )
        return unseen

    def student(self, *modalities: str) -> Model:
        """Return a model of the last size; by default of the modalities in `seen`."""
        return self.model(modalities or self.seen, self.sizes[-1])

    def training(self, objective: Objective, *, size: str = "", steps: int = 0, **overrides: Any) -> Training:
        """Return a training with these settings.

        Args:
            objective: the loss to minimize.
            size: model size passed to `optimizer`; the student's by default.
            steps: number of updates; a student's by default.
            **overrides: other fields of `Training`, such as models and data.
        """
        size, steps = size or self.sizes[-1], steps or self.steps
        fields: dict[str, Any] = {
            "validation": self.validation,
            "test": self.test,
            "evaluate_every": self.evaluate_every,
            "save_every": self.save_every,
        }
        return Training(
            objective=objective,
            optimizer=self.optimizer(size, steps),
            task=self.task,
            steps=steps,
            **fields | overrides,
        )

    def supervised(self, model: Model, **overrides: Any) -> Training:
        """Return a training of a student on labels alone."""
        return self.training(
            combine(task=self.task.objective()), models={"student": Trained(model)}, data=self.labeled_data, **overrides
        )

    def teacher(self, *modalities: str) -> dict[str, Training]:
        """Return a training of a teacher, of the first size, on labels alone, named after its modalities."""
        size, name = self.sizes[0], "_".join((*modalities, "teacher"))
        objective, models = combine(task=self.task.objective("teacher")), {"teacher": self.model(modalities, size)}
        return {
            name: self.training(
                objective,
                size=size,
                steps=self.teacher_steps or self.steps,
                models={n: Trained(m) for n, m in models.items()},
                data=self.labeled_data,
            )
        }

    def frozen_teacher(self, source: Mapping[str, Training], reads: tuple[str, ...] = ("logits",)) -> dict[str, Frozen]:
        """Return the role `teacher` for the evaluated model of another training.

        Args:
            source: name -> the other training.
            reads: teacher outputs that the objective reads; these are cached.
        """
        ((name, training),) = source.items()
        model, init_from = training.merged.networks[training.evaluate], f"{name}.{training.evaluate}"
        return {"teacher": Frozen(model, init_from=init_from, cache=reads if self.cached else None)}

    def distilled(
        self,
        model: Model,
        source: Mapping[str, Training],
        *,
        labels: bool = True,
        init_from: str | None = None,
        **overrides: Any,
    ) -> Training:
        """Return a training of a student on the logits of another training's model, on all rows.

        Args:
            model: the student.
            source: name -> training whose evaluated model is the teacher.
            labels: also train on the labels of labeled rows.
            init_from: source of the student's initial variables, as in `Trained`.
            **overrides: other fields of `Training`.
        """
        soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=self.temperature)
        task = {"task": self.task.objective(where=self.labelled)} if labels else {}
        fields: dict[str, Any] = {"data": self.all_data} | overrides
        fields["models"] = {"student": Trained(model, init_from=init_from), **self.frozen_teacher(source)}
        return self.training(combine(**task, soft=soft), **fields)
