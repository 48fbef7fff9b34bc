"""Students that begin with chosen layers, heads, channels and rows of their teacher's: a pure function of variables."""

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
from mmkd_jax.pretrained.origins import CHOSEN, ROWS, SIZES, Keep, Taken, leaves, shapes, taken, within

# attributes that tensors tell, or that change no result
_TOLD = set("parent name layers depths types pooler dtype remat scan dropout attention_dropout".split())


@dataclasses.dataclass(frozen=True, eq=False)  # jit takes it as a function, by identity
class Inheritance:
    """What of a teacher a student begins with: `(own, given) -> variables`, pure; jit takes it.

    Heads are taken whole: the student's have as many channels as the teacher's. What is taken is not rescaled. So the
    student equals its teacher where nothing reads what is left out, and no LayerNorm's statistics change with it.

    Attributes:
        student: encoders, as `pretrained.load` gives them.
        teacher: the same; it may have more encoders.
        keep: modality -> what is taken; all, where it is not named.
        fresh: paths of the student's variables, such as "encoders_text/tokens", that stay as they begin.
        taken: path of each tensor that is taken -> where from.

    Raises:
        UserError: the teacher does not have it, or the student has another number of it, by name.

    Source: layers as in DistilBERT (Sanh et al., 2019, https://arxiv.org/abs/1910.01108); layers, heads and channels as
        in manual inheritance of TinyCLIP (Wu et al., 2023, https://arxiv.org/abs/2309.12314), which keeps the first

    Example:
        >>> from mmkd_jax.models import Bert
        >>> from mmkd_jax.pretrained import initial
        >>> big, small = (Encoders({"text": Bert(9, 8, n, 2, 12, 6)}) for n in (4, 2))
        >>> inheritance = Inheritance(small, big, {"text": Keep(layers=(0, 3))})
        >>> variables = inheritance(initial(small), initial(big, jax.random.key(1)))
        >>> inheritance.describe()[:2]
        ['text layer_0 <- layer_0, whole', 'text layer_1 <- layer_3, whole']
    """

    student: Encoders | Clip
    teacher: Encoders | Clip
    keep: Mapping[str, Keep] = dataclasses.field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    taken: Mapping[str, Taken] = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "taken", taken(self.student, self.teacher, self.keep, self.fresh))

    def __call__(self, own: Any, given: Any) -> Any:
        """The student's variables; what it does not take is its own, such as a classifier above its encoders.

        Args:
            own: variables that the student would begin with.
            given: the teacher's.

        Raises:
            UserError: they are of other models.
        """
        there, left = leaves(given), dict(self.taken)
        for source, shape, *_ in self.taken.values():
            found = list(there[source].shape) if source in there else "nothing"
            if found != list(shape):
                raise UserError(f"given variables have {found} at {source}; expected the teacher's, {list(shape)}")

        @functools.cache
        def best(modality, score, many):
            scores = score(self.teacher.encoders[modality], given["params"][f"encoders_{modality}"])
            return jnp.sort(jnp.argsort(-scores, 1, stable=True)[:, :many], 1)

        def take(path, x):
            row = left.pop(path := jax.tree_util.keystr(path, simple=True, separator="/"), None)
            if row is None:
                return x
            y, begun = there[row.source], None
            for i, axis in enumerate(row.axes):
                if (kept := axis.kept) is None:
                    continue
                kept = best(row.modality, *kept)[axis.row] if isinstance(kept, tuple) else kept
                places = (kept[:, None] * axis.each + np.arange(axis.each)[None]).reshape(1, -1)
                places = places + np.arange(axis.blocks)[:, None] * (axis.size * axis.each)
                y = jnp.take(jnp.asarray(y), places.reshape(-1), i, mode="clip")
                if axis.name in ROWS:
                    begun = (kept < 0)[:, None]
            if y.shape != x.shape:
                raise UserError(f"own variables have {list(x.shape)} at {path}; the student's are {list(y.shape)}")
            return (y if begun is None else jnp.where(begun, x, y)).astype(x.dtype)

        found = jax.tree_util.tree_map_with_path(take, own)
        if left:
            raise UserError(f"own variables have no {next(iter(left))}: expected all that the student begins with")
        return found

    def describe(self) -> list[str]:
        """What is taken from where, what stays as it begins, what is left of the teacher, and what else differs."""
        groups: dict[tuple[str, str, str], dict[str, str]] = {}
        for path, row in self.taken.items():
            said = groups.setdefault((*_group(path), _group(row.source)[1]), {})
            said |= {a.name: f"{a.name} {_said(a)}" for a in row.axes if a.kept is not None}
        lines, others = [], {}
        for (of, mine, its), said in groups.items():
            what = ", ".join(said[a] for a in CHOSEN if a in said) or "whole"
            if mine.startswith(("layer_", "block_")):
                lines.append(f"{of} {mine} <- {its}, {what}")
            else:  # tables, norms and the like have the same names in both
                others.setdefault((of, what), []).append(mine)
        lines += [f"{of} {', '.join(names)} <- the same, {what}" for (of, what), names in others.items()]
        sources = {row.source for row in self.taken.values()}
        for how, module, known in (
            ("begins as its own", self.student, set(self.taken)),
            ("left to the teacher", self.teacher, sources),
        ):
            there = {_group(path) for path in known}
            rest: dict[str, dict[str, None]] = {}
            for path in shapes(module):
                if path not in known:
                    of, name = _group(path)
                    rest.setdefault(of, {})[name if (of, name) not in there else path.partition("/")[2]] = None
            lines += [f"{of} {how}: {', '.join(names)}" for of, names in rest.items()]
        for modality, mine in self.student.encoders.items():
            its = self.teacher.encoders[modality]
            names = [f.name for f in dataclasses.fields(mine) if f.name not in _TOLD | set(SIZES.values())]
            pairs = {n: (getattr(mine, n), getattr(its, n)) for n in names}
            lines += [f"{modality} {n} is {a!r}, the teacher's {b!r}" for n, (a, b) in pairs.items() if a != b]
        return lines


def _group(path):
    """Modality, and the layer or module."""
    of, inner = within(path.partition("/")[2])
    name = inner.removeprefix("transformer/").partition("/")[0]
    return of, "_".join(name.split("_")[:3]) if name.startswith("block_") else name


def _said(axis):
    """As in `0…3 6 of 8`."""
    if isinstance(axis.kept, tuple):
        return f"{axis.kept[1]} of {axis.size} by {axis.kept[0].__name__}"
    runs, begun = [], int((axis.kept < 0).sum())
    for n in axis.kept[axis.kept >= 0].tolist():
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    said = " ".join(str(a) if a == b else f"{a} {b}" if b == a + 1 else f"{a}…{b}" for a, b in runs[:8])
    said += f" … ({len(axis.kept) - begun})" if len(runs) > 8 else ""
    return f"{said} of {axis.size}" + (f", {begun} begin as its own" if begun else "")
