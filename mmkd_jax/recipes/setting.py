"""What the parts of a recipe share, and the three kinds of part that recipes are made of."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import optax

from mmkd_jax import losses
from mmkd_jax.data.reader import Reader
from mmkd_jax.errors import UserError, choices
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import Task
from mmkd_jax.views import Model


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all parts of a recipe share: `recipes.NAME(setting) -> {name: Part}`.

    Attributes:
        task: what models are trained for and measured by.
        few: the rows with a label.
        every: all rows, those without a label, too.
        validation: chooses the best step.
        test: looked at once, at the end.
        model: `(modalities, size) -> Model`: a model of those modalities, of a size that `sizes` names.
        optimizer: `(size, steps) -> optax transformation`.
        steps: updates of a student.
        modalities: all that the pairs have.
        seen: those that the student has in use.
        sizes: names of sizes, the teacher's first, the student's last.
        teacher_steps: updates of a teacher, and of a teacher's assistant; 0 is as many as a student's.
        labelled: mask of the rows of `every` that have a label; None is all of them.
        temperature: of the KL to a teacher.
        cached: a teacher answers once for all rows; it is not run again.
        evaluate_every: steps between two looks at validation.
        save_every: steps between two checkpoints.
    """

    task: Task
    few: Reader
    every: Reader
    validation: Reader
    test: Reader
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
            raise UserError(f"sizes are {choices(self.sizes)}; expected the teacher's and the student's")
        if not self.seen or not set(self.seen) <= set(self.modalities):
            raise UserError(
                f"seen are {choices(self.seen)}; expected some of the modalities {choices(self.modalities)}"
            )

    @property
    def unseen(self) -> tuple[str, ...]:
        """The modalities that the student lacks in use.

        Raises:
            UserError: there is none.
        """
        found = tuple(m for m in self.modalities if m not in self.seen)
        if not found:
            raise UserError(
                f"the student sees all modalities, {choices(self.modalities)}; the recipe is for one that "
                "lacks some: name fewer in seen="
            )
        return found

    def student(self, *modalities: str) -> Model:
        """A model of the last size, of what the student sees if no modality is named."""
        return self.model(modalities or self.seen, self.sizes[-1])

    def part(self, objective: Objective, *, size: str = "", steps: int = 0, **more: Any) -> Part:
        """A part of this setting; a student's, if nothing else is said.

        Args:
            objective: what is to be made small.
            size: for the optimizer.
            steps: updates.
            **more: further fields of `Part`, such as models and data.
        """
        size, steps = size or self.sizes[-1], steps or self.steps
        fields: dict[str, Any] = {
            "validation": self.validation,
            "test": self.test,
            "evaluate_every": self.evaluate_every,
            "save_every": self.save_every,
        }
        return Part(
            objective=objective,
            optimizer=self.optimizer(size, steps),
            task=self.task,
            steps=steps,
            **fields | more,
        )

    def alone(self, model: Model, **more: Any) -> Part:
        """A part in which a student learns from the labels alone."""
        return self.part(combine(task=self.task.objective()), models={"student": model}, data=self.few, **more)

    def teacher(self, *modalities: str) -> dict[str, Part]:
        """A part in which a model of the first size learns from the labels alone, named by what it sees."""
        size, name = self.sizes[0], "_".join((*modalities, "teacher"))
        objective, models = combine(task=self.task.objective("teacher")), {"teacher": self.model(modalities, size)}
        steps = self.teacher_steps or self.steps
        return {name: self.part(objective, size=size, steps=steps, models=models, data=self.few, trained=("teacher",))}

    def after(self, source: Mapping[str, Part], reads: tuple[str, ...] = ("logits",)) -> dict[str, Any]:
        """Fields of a part whose model `teacher` is what another part ended with.

        Args:
            source: name -> that part; its measured model is the teacher.
            reads: the outputs that the part reads of it.
        """
        ((name, part),) = source.items()
        return {
            "models": {"teacher": part.models[part.measured]},
            "take": {"teacher": f"{name}.{part.measured}"},
            "cache": {"teacher": reads} if self.cached else {},
        }

    def taught(self, model: Model, source: Mapping[str, Part], *, labels: bool = True, **more: Any) -> Part:
        """A part in which a student learns from what another part ended with, on all rows.

        Args:
            model: the student.
            source: name -> the part whose measured model teaches.
            labels: learn from the labels, too, where there are some.
            **more: further fields of `Part`; those of `after` are merged.
        """
        fields = self.after(source)
        soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=self.temperature)
        task = {"task": self.task.objective(where=self.labelled)} if labels else {}
        fields["models"] = {"student": model} | fields["models"]
        fields["take"] = fields["take"] | more.pop("take", {})
        all_fields: dict[str, Any] = {"data": self.every, **fields, **more}
        return self.part(combine(**task, soft=soft), **all_fields)
