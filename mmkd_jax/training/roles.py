"""Roles of a model in a training: trained, frozen, or an exponential moving average of a trained model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

from mmkd_jax.core.model import Model
from mmkd_jax.core.tuning import whole
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.teacher_cache import CacheSpec

Source = str | PretrainedVariables
"""Source of variables: "TRAINING.MODEL", a subtree of it ("TRAINING.MODEL.params.PATH"), or variables in memory."""


@runtime_checkable
class ModelWithVariables(Protocol):
    """A model with variables, such as `pretrained.Pretrained`, in place of a `Model` and its `init_from`."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    @property
    def variables(self) -> Any:
        """Its variables."""
        ...

    @property
    def source(self) -> Mapping[str, PretrainedVariables]:
        """Path within the model -> its variables."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of `logits`; empty if unknown."""
        ...


@dataclasses.dataclass(frozen=True)
class _WithVariables:
    model: Model | ModelWithVariables
    init_from: Source | Mapping[str, Source] | None = None
    layers: Callable[[Any, Any], Any] | None = None
    _: dataclasses.KW_ONLY
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        kind, loaded = type(self).__name__, cast(Any, self.model)
        names = ("model", "variables", "source", "labels")
        if all(hasattr(type(loaded), n) for n in names):  # of its class: Linen's `variables` raise on an unbound module
            if self.init_from is None:  # by path for a trained one, because a new head has no variables yet
                origin = next((s.origin for s in loaded.source.values()), ())
                every = PretrainedVariables(loaded.variables, origin)
                object.__setattr__(self, "init_from", every if isinstance(self, Frozen) else loaded.source)
            object.__setattr__(self, "model", loaded.model)
        if self.labels:
            valid = isinstance(self.labels, tuple | list) and all(isinstance(x, str) for x in self.labels)
            if not valid or len(set(self.labels)) < len(self.labels):
                raise UserError(f"{kind}: labels={self.labels!r}; expected the names of the classes, each once")
            object.__setattr__(self, "labels", tuple(self.labels))
        elif isinstance(self.model, Model):
            object.__setattr__(self, "labels", self.model.labels)
        if not isinstance(self.model, Model):
            got = type(self.model).__name__
            raise UserError(f"{kind}: model is a {got}; expected a Model, such as mmkd.linen(module)")
        if isinstance(self, Frozen):
            object.__setattr__(self, "model", whole(self.model))
        if self.layers is not None and not isinstance(self.init_from, Source):
            raise UserError(f"{kind}: layers requires init_from to name a model: give both")

    def sources(self, name: str) -> dict[str, Source]:
        """Map dotted paths, starting with the model's name, to the source of their variables."""
        if self.init_from is None:
            return {}
        if isinstance(self.init_from, Mapping):
            return {f"{name}.{path}": source for path, source in self.init_from.items()}
        return {name: self.init_from}


@dataclasses.dataclass(frozen=True)
class Trained(_WithVariables):
    """A trained model, such as a student.

    Attributes:
        model: the model; or a pretrained one, from `pretrained.load`, with its variables.
        init_from: source of the initial variables; None initializes them at random. "TRAINING.MODEL" takes the final
            variables of an earlier training with the same seed; `PretrainedVariables` takes variables in memory. A
            mapping from dotted paths within the model to such sources initializes only these subtrees.
        layers: layers, heads or channels of `init_from` to start from, see `pretrained.Inheritance`; None takes all.
        labels: names of the classes, in the order of `logits`; those of a pretrained model by default. If the data has
            names as well, `logits` has the data's classes, in their order.

    Example:
        >>> from mmkd_jax.core.model import plain
        >>> net = plain(lambda params, batch: {"logits": batch["x"]})
        >>> Trained(net, init_from={"head": "teacher.teacher.params.Classifier_0"}).sources("student")
        {'student.head': 'teacher.teacher.params.Classifier_0'}
    """


@dataclasses.dataclass(frozen=True)
class Frozen(_WithVariables):
    """A frozen model, such as a teacher. It runs with train=False.

    Attributes:
        model: as for `Trained`; the whole one of a partly trained model.
        init_from: as for `Trained`.
        layers: as for `Trained`.
        labels: as for `Trained`.
        cache: outputs to compute once for all rows (and augmented views) and keep on disk, so that the model does not
            run in training: names such as ("logits",), or a `CacheSpec`. None runs the model in every step.
        random: accept random variables. Without it, a frozen model needs `init_from`, unless its `init` returns weights
            that do not depend on the key.
    """

    cache: tuple[str, ...] | CacheSpec | None = None
    random: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.cache is not None and self.layers is not None:
            raise UserError("layers and cache are mutually exclusive: a cached model always has all its layers")

    @property
    def cache_spec(self) -> CacheSpec | None:
        """Cached outputs and their storage format; None for a model that runs in every step."""
        return self.cache if self.cache is None or isinstance(self.cache, CacheSpec) else CacheSpec(self.cache)


@dataclasses.dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average (EMA) of a trained model, such as a mean teacher.

    Attributes:
        of: name of the trained model.
        decay: decay of the average per step, 0 … 1.
    """

    of: str
    decay: float | int

    def __post_init__(self):
        if not 0 <= self.decay <= 1:
            raise UserError(f"MovingAverage(of={self.of!r}): decay is {self.decay}; expected a number from 0 to 1")


Role = Trained | Frozen | MovingAverage


def check_roles(roles: Mapping[str, Role]) -> None:
    """Raise for values other than roles, averages of untrained models, and trainings without a trained model."""
    for name, role in roles.items():
        if not isinstance(role, Role):
            raise UserError(
                f"models[{name!r}] is {type(role).__name__}; expected Trained(model), Frozen(model) or "
                "MovingAverage(of=NAME, decay=…)"
            )
    trained = [n for n, r in roles.items() if isinstance(r, Trained)]
    if not trained and roles and not all(isinstance(role, Frozen) for role in roles.values()):
        raise UserError(f"no model is trained; models are: {choices(roles)}; wrap one in Trained(model)")
    for name, role in roles.items():
        if isinstance(role, MovingAverage) and role.of not in trained:
            raise UserError(
                f"models[{name!r}] averages {role.of!r}, which is not trained; trained are: {choices(trained)}"
            )
