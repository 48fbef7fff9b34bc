"""Weight inheritance: initialize a student from selected layers, heads, channels and rows of its teacher."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.errors import UserError
from mmkd_jax.models.clip import Clip
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained.attributes import attributes
from mmkd_jax.pretrained.origins import (
    CHOSEN,
    ROWS,
    SIZES,
    SubNetwork,
    TensorOrigin,
    leaves,
    shapes,
    tensor_origins,
    within,
)

# attributes that follow from the tensors, or do not affect results
_TOLD = set("num_layers depths types pooler dtype remat scan dropout attention_dropout".split())


@dataclasses.dataclass(frozen=True, eq=False)  # jit takes it as a function, by identity
class Inheritance:
    """Weight inheritance of a student from its teacher: a pure, jittable function `(student, teacher) -> variables`.

    Heads are inherited whole: the student's heads have as many channels as the teacher's. Inherited weights are not
    rescaled. The student therefore equals its teacher if the omitted parts are unused and do not change the statistics
    of any LayerNorm.

    Attributes:
        student: encoders, as returned by `pretrained.load`.
        teacher: encoders, as returned by `pretrained.load`; it may have more encoders than the student.
        keep: modality -> sub-network to inherit; modalities not listed are inherited whole.
        fresh: paths of student variables, such as "encoders_text/tokens", that keep their initialization.
        origins: path of each inherited tensor -> its origin.

    Raises:
        UserError: the teacher lacks a selected part, or sizes do not match; the message names them.

    Source: layers as in DistilBERT (Sanh et al., 2019, https://arxiv.org/abs/1910.01108); layers, heads and channels as
        in manual inheritance of TinyCLIP (Wu et al., 2023, https://arxiv.org/abs/2309.12314), which keeps the first

    Example:
        >>> from mmkd_jax.models import Bert, TransformerConfig
        >>> from mmkd_jax.pretrained import initial
        >>> config = TransformerConfig(embed_dim=8, num_layers=4, num_heads=2, mlp_dim=12)
        >>> configs = config, dataclasses.replace(config, num_layers=2)
        >>> big, small = (Encoders({"text": Bert(9, c, length=6)}) for c in configs)
        >>> inheritance = Inheritance(small, big, {"text": SubNetwork(layers=(0, 3))})
        >>> variables = inheritance(initial(small), initial(big, jax.random.key(1)))
        >>> inheritance.describe()[:2]
        ['text layer_0 <- layer_0, whole', 'text layer_1 <- layer_3, whole']
    """

    student: Encoders | Clip
    teacher: Encoders | Clip
    keep: Mapping[str, SubNetwork] = dataclasses.field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    origins: Mapping[str, TensorOrigin] = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "origins", tensor_origins(self.student, self.teacher, self.keep, self.fresh))

    def __call__(self, student: Any, teacher: Any) -> Any:
        """Return the student's variables; those not inherited, such as a classifier, keep their initialization.

        Args:
            student: initial variables of the student.
            teacher: variables of the teacher.

        Raises:
            UserError: the variables belong to other models.
        """
        source_leaves, remaining = leaves(teacher), dict(self.origins)
        for source, shape, *_ in self.origins.values():
            actual = list(source_leaves[source].shape) if source in source_leaves else "nothing"
            if actual != list(shape):
                raise UserError(f"the teacher's variables have {actual} at {source}; expected {list(shape)}")

        @functools.cache
        def best(modality, score, many):
            scores = score(self.teacher.encoders[modality], teacher["params"][f"encoders_{modality}"])
            return jnp.sort(jnp.argsort(-scores, 1, stable=True)[:, :many], 1)

        def take(path, x):
            row = remaining.pop(path := jax.tree_util.keystr(path, simple=True, separator="/"), None)
            if row is None:
                return x
            y, initial_rows = source_leaves[row.source], None
            for i, axis in enumerate(row.axes):
                if (selected := axis.selected) is None:
                    continue
                selected = best(row.modality, *selected)[axis.row] if isinstance(selected, tuple) else selected
                index = (selected[:, None] * axis.each + np.arange(axis.each)[None]).reshape(1, -1)
                index = index + np.arange(axis.blocks)[:, None] * (axis.size * axis.each)
                y = jnp.take(jnp.asarray(y), index.reshape(-1), i, mode="clip")
                if axis.name in ROWS:
                    initial_rows = (selected < 0)[:, None]
            if y.shape != x.shape:
                expected = f"expected {list(y.shape)}"
                raise UserError(f"the student's variables have {list(x.shape)} at {path}; {expected}")
            return (y if initial_rows is None else jnp.where(initial_rows, x, y)).astype(x.dtype)

        variables = jax.tree_util.tree_map_with_path(take, student)
        if remaining:
            raise UserError(f"the student's variables lack {next(iter(remaining))}: pass all of its initial variables")
        return variables

    def describe(self) -> list[str]:
        """Describe the origin of each inherited part, what is not inherited, and other differences of the models."""
        groups: dict[tuple[str, str, str], dict[str, str]] = {}
        for path, row in self.origins.items():
            axes = groups.setdefault((*_group(path), _group(row.source)[1]), {})
            axes |= {a.name: f"{a.name} {_selection(a)}" for a in row.axes if a.selected is not None}
        lines, others = [], {}
        for (of, mine, its), axes in groups.items():
            what = ", ".join(axes[a] for a in CHOSEN if a in axes) or "whole"
            if mine.startswith(("layer_", "block_")):
                lines.append(f"{of} {mine} <- {its}, {what}")
            else:  # embeddings, norms and the like have the same names in both
                others.setdefault((of, what), []).append(mine)
        lines += [f"{of} {', '.join(names)} <- the same, {what}" for (of, what), names in others.items()]
        sources = {row.source for row in self.origins.values()}
        for how, module, known in (
            ("freshly initialized", self.student, set(self.origins)),
            ("left to the teacher", self.teacher, sources),
        ):
            inherited = {_group(path) for path in known}
            rest: dict[str, dict[str, None]] = {}
            for path in shapes(module):
                if path not in known:
                    of, name = _group(path)
                    rest.setdefault(of, {})[name if (of, name) not in inherited else path.partition("/")[2]] = None
            lines += [f"{of} {how}: {', '.join(names)}" for of, names in rest.items()]
        for modality, mine in self.student.encoders.items():
            its, skipped = attributes(self.teacher.encoders[modality]), _TOLD | set(SIZES.values())
            pairs = {n: (x, its[n]) for n, x in attributes(mine).items() if n not in skipped}
            lines += [f"{modality} {n} is {a!r}, the teacher's {b!r}" for n, (a, b) in pairs.items() if a != b]
        return lines


def _group(path):
    """Modality, and the layer or module."""
    of, inner = within(path.partition("/")[2])
    name = inner.removeprefix("transformer/").partition("/")[0]
    return of, "_".join(name.split("_")[:3]) if name.startswith("block_") else name


def _selection(axis):
    """The indices kept along an axis, such as `0…3 6 of 8`."""
    if isinstance(axis.selected, tuple):
        return f"{axis.selected[1]} of {axis.size} by {axis.selected[0].__name__}"
    runs, fresh = [], int((axis.selected < 0).sum())
    for n in axis.selected[axis.selected >= 0].tolist():
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    text = " ".join(str(a) if a == b else f"{a} {b}" if b == a + 1 else f"{a}…{b}" for a, b in runs[:8])
    text += f" … ({len(axis.selected) - fresh})" if len(runs) > 8 else ""
    return f"{text} of {axis.size}" + (f", {fresh} freshly initialized" if fresh else "")
