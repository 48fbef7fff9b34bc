"""Where each tensor of a student comes from, by shapes alone.

Which axis of which tensor is what stands in a table; nothing is guessed from equal sizes.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.clip import Clip
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import initial

Score = Callable[[Any, Any], Any]
Which = Sequence[int] | Sequence[Sequence[int]]

# a tensor, or a module whose tensors have the last of these axes
AXES: dict[str, tuple[str, ...]] = {
    "tokens": ("vocabulary", "width"),
    "positions/embedding": ("positions", "width"),
    "positions": ("places", "width"),
    "types": ("types", "width"),
    "kernel": ("rows", "columns", "colours", "width"),
    "bias": ("width",),
    "class": ("width",),
    "distillation": ("width",),
    "norm_embedded": ("width",),
    "norm": ("width",),
    "layer/query": ("width", "heads"),
    "layer/key": ("width", "heads"),
    "layer/value": ("width", "heads"),
    "layer/out": ("heads", "width"),
    "layer/scale_attention": ("width",),
    "layer/norm_attention": ("width",),
    "layer/grow": ("width", "inner"),
    "layer/shrink": ("inner", "width"),
    "layer/scale_output": ("width",),
    "layer/norm_output": ("width",),
    "pooler": ("width", "pooled"),
    "head": ("width", "space"),
    "probe/probe": ("queries", "width"),
    "probe/kernel": ("width", "heads"),
    "probe/bias": ("heads",),
    "probe/out": ("heads", "width"),
    "probe/norm": ("width",),
    "probe/grow": ("width", "inner"),
    "probe/shrink": ("inner", "width"),
    "projection": ("width", "space"),
}
SIZES = {"heads": "heads", "inner": "inner", "width": "width", "vocabulary": "vocabulary", "positions": "length"}
"""Axis -> the attribute of an encoder that counts it."""
CHOSEN = (*SIZES, "space")
"""Axes of which a student may take a part."""
PER_LAYER = ("heads", "inner")
ROWS = ("vocabulary", "positions")
"""Axes of tables: a row may be the student's own."""
_LAYER = re.compile(r"((?:.*/)?layer_|block_(?P<stage>\d+)_)(?P<number>\d+)([/_].*)")


@dataclasses.dataclass(frozen=True)
class Keep:
    """What a student's encoder takes of its teacher's; None is all, where both have as many.

    Attributes:
        layers: for each layer of the student the teacher's, from 0; of ResNet and ConvNeXt the blocks of each stage.
            `selection.spread`, `every` and `strided` give them.
        heads: whole heads, for all layers alike, or for each layer of the student (and, last, SigLIP's probe); or a
            function that scores the teacher's, such as `selection.head_norms`: the best are kept, in their order.
        inner: units between a layer's dense layers, in the same way; `selection.inner_norms` scores them.
        width: channels of the tokens, the same in all layers.
        vocabulary: for each token id of the student the teacher's, or −1 for a row that stays as it begins.
        positions: rows of a text's table of positions, in the same way.
        space: channels of what is projected from the tokens: CLIP's common space, SigLIP's of texts.

    Example:
        >>> from mmkd_jax.pretrained import selection
        >>> keep = Keep(layers=selection.every(6, 3), heads=selection.head_norms, width=range(192))
    """

    layers: Which | None = None
    heads: Which | Score | None = None
    inner: Which | Score | None = None
    width: Sequence[int] | None = None
    vocabulary: Sequence[int] | None = None
    positions: Sequence[int] | None = None
    space: Sequence[int] | None = None


class Axis(NamedTuple):
    """What is taken along an axis of a tensor.

    Attributes:
        name: as the table has it.
        size: how many there are in the teacher: heads, not their channels.
        kept: the numbers of those that are taken; a function that scores them, and how many; None is all.
        row: of the scores.
        each: channels of one: of a head more than one.
        blocks: how often the axis has them all, side by side: gate and value; queries, keys and values of a probe.
    """

    name: str
    size: int
    kept: np.ndarray | tuple[Score, int] | None = None
    row: int = 0
    each: int = 1
    blocks: int = 1

    @property
    def length(self) -> int:
        """How long the axis is in the student."""
        if self.kept is None:
            return self.size
        return self.each * self.blocks * (self.kept[1] if isinstance(self.kept, tuple) else len(self.kept))


class Taken(NamedTuple):
    """Where a tensor of the student comes from.

    Attributes:
        source: path of the teacher's tensor.
        shape: of that tensor.
        modality: whose encoder it is of.
        axes: what is taken along each axis.
    """

    source: str
    shape: tuple[int, ...]
    modality: str
    axes: tuple[Axis, ...]


def taken(
    student: Encoders | Clip, teacher: Encoders | Clip, keep: Mapping[str, Keep], fresh: Sequence[str] = ()
) -> dict[str, Taken]:
    """Path of each tensor that the student takes -> where from.

    Args:
        student: encoders.
        teacher: encoders; it may have more.
        keep: modality -> what is taken; all, where it is not named.
        fresh: paths, without the collection, of what is not taken.

    Raises:
        UserError: the teacher does not have it, or the student has another number of it, by name.
    """
    both = set(student.encoders) & set(teacher.encoders)
    if unknown := (set(keep) | set(student.encoders)) - both:
        raise UserError(f"no encoder of {choices(unknown)} in student and teacher; in both there are: {choices(both)}")
    chosen = {m: _chosen(m, student.encoders[m], teacher.encoders[m], keep.get(m, Keep())) for m in both}
    there, unused, found, missing = shapes(teacher), set(fresh), {}, {}
    for path, x in shapes(student).items():
        collection, _, name = path.partition("/")
        if held := {f for f in fresh if f"{name}/".startswith(f"{f}/")}:
            unused -= held
            continue
        of, inner = within(name)
        its, own = teacher.encoders.get(of), chosen.get(of, {})
        attention, row, source = -1, -1, path  # of a probe the last; a layer has its numbers
        if (layer := _LAYER.fullmatch(inner)) and "layers" in own:
            attention = int(layer["number"])
            row = (own["layers"][int(layer["stage"])] if layer["stage"] else own["layers"])[attention]
            source = f"{collection}/encoders_{of}/{layer[1]}{row}{layer[4]}"
        mend = f"let it begin as its own, fresh=({name!r},)"
        if source not in there:
            missing[name] = source.partition("/")[2]
            continue
        names = _axes(inner, x.ndim, its)
        if not names and own.keys() & {"heads", "inner", "width"}:
            raise UserError(
                f"{name}: which of its axes are channels or heads is not known: leave them whole, or {mend}"
            )
        axes = []
        for axis, mine, size in zip(names or [""] * x.ndim, x.shape, there[source].shape, strict=True):
            which, each, blocks = own.get(axis), 1, 1
            if which is not None and axis == "space":
                which = _numbers(name, axis, which, mine, size)
            elif which is not None:
                long, size = size, getattr(its, SIZES[axis])
                which = which[attention] if axis in PER_LAYER else which
                each = its.width // size if axis == "heads" else 1
                blocks = long // (size * each)
            axes.append(Axis(axis, size, which, row, each, blocks))
            if (many := axes[-1].length) != mine:
                how = f"name those that are kept, Keep({axis}=…), or " if axis in CHOSEN else ""
                raise UserError(f"{name} has {mine} along {axis or 'an axis'}, what it takes {many}: {how}{mend}")
        found[path] = Taken(source, there[source].shape, of, tuple(axes))
    if missing:
        named, more = list(missing)[:5], f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"the teacher has no {', '.join(missing[n] for n in named)}{more}: "
            f"let what it lacks begin as the student's own, fresh={tuple(named)}"
        )
    if unused:
        raise UserError(f"fresh names {choices(unused)}, which the student does not have")
    idle = {f"{m} {axis}" for m, own in chosen.items() for axis in own.keys() - {"layers"}}
    if idle := idle - {f"{row.modality} {axis.name}" for row in found.values() for axis in row.axes}:
        raise UserError(f"keep names {choices(idle)}, which nothing that is taken has")
    return found


def _chosen(modality, mine, its, keep) -> dict[str, Any]:
    """What is taken along each axis where it is not all; of heads and inner units for each attention."""
    kind, found = type(its).__name__, {}
    if type(mine) is not type(its):
        raise UserError(f"{modality}: a {type(mine).__name__} cannot begin as a {kind}")
    if hasattr(its, "heads") and mine.width * its.heads != its.width * mine.heads:
        raise UserError(
            f"{modality}: the student has {mine.heads} heads on a width of {mine.width}, but the teacher's heads are "
            f"taken whole: its width must be {its.width // its.heads} times its heads"
        )
    if hasattr(its, "layers"):
        if keep.layers is None and mine.layers != its.layers:
            raise UserError(f"{modality}: the student has {mine.layers} layers, the teacher {its.layers}: name them")
        which = range(its.layers) if keep.layers is None else keep.layers
        found["layers"] = _numbers(modality, "layers", which, mine.layers, its.layers).tolist()
    elif hasattr(its, "depths"):
        if mine.widths != its.widths:
            raise UserError(f"{modality}: the student has widths {mine.widths}, the teacher {its.widths}")
        stages = [range(d) for d in its.depths] if keep.layers is None else keep.layers
        if len(stages) != len(its.depths) or not all(isinstance(which, Sequence) for which in stages):
            raise UserError(
                f"{modality}: layers={keep.layers}; expected the blocks of each of {len(its.depths)} stages"
            )
        depths = zip(stages, mine.depths, its.depths, strict=True)
        found["layers"] = [_numbers(modality, f"layers of stage {i}", *n).tolist() for i, n in enumerate(depths)]
    elif keep.layers is not None:
        raise UserError(f"{modality}: {kind} has no layers to choose from")
    for axis in (a for a in CHOSEN if getattr(keep, a) is not None):
        which, attribute = getattr(keep, axis), SIZES.get(axis, "width")
        if not hasattr(its, attribute):
            raise UserError(f"{modality}: {kind} has no {axis} to choose from")
        want, have = getattr(mine, attribute), getattr(its, attribute)
        if axis in PER_LAYER:
            attentions = mine.layers + (getattr(mine, "pool", None) == "probe")
            alike = callable(which) or not isinstance(next(iter(which), 0), Sequence)
            rows = [which] * attentions if alike else which
            if len(rows) != attentions:
                raise UserError(f"{modality}: {axis} of {len(rows)} layers are named, the student has {attentions}")
            for row in rows:
                _numbers(modality, axis, range(want) if callable(row) else row, want, have)
            found[axis] = [(row, want) if callable(row) else np.asarray(tuple(row), np.int32) for row in rows]
        else:
            found[axis] = which if axis == "space" else _numbers(modality, axis, which, want, have)
    return found


def _numbers(where, axis, which, want, have) -> np.ndarray:
    """The numbers that are named, checked."""
    found = tuple(which)
    if wrong := [n for n in found if not (-1 if axis in ROWS else 0) <= n < have]:
        raise UserError(f"{where}: {axis} {wrong[0]} of the teacher's {have}, which are 0 … {have - 1}")
    if len(found) != want:
        raise UserError(f"{where}: {axis} names {len(found)}, the student has {want}")
    if axis in ("heads", "inner", "width", "space") and len(set(found)) < want:
        raise UserError(f"{where}: {axis} names one of the teacher's twice")
    return np.asarray(found, np.int32)


def _axes(inner, ndim, encoder):
    """The names of a tensor's axes; none, where the table does not have it."""
    name = re.sub(r"^transformer/layer_\d+/", "layer/", inner)
    found = next((AXES[k] for k in (name, name.rpartition("/")[0]) if len(AXES.get(k, ())) >= ndim), ())
    same = "width" if getattr(encoder, "pooled", None) is None else "pooled"
    return [same if a == "pooled" else a for a in found[-ndim:]]


def within(name: str) -> tuple[str, str]:
    """Modality and the path within its encoder, or its projection; no modality for what belongs to none.

    Example:
        >>> within("encoders_text/tokens/embedding"), within("projection_text/kernel"), within("logit_scale")
        (('text', 'tokens/embedding'), ('text', 'projection/kernel'), ('', 'logit_scale'))
    """
    top, _, inner = name.partition("/")
    kind, _, modality = top.partition("_")
    return {"encoders": (modality, inner), "projection": (modality, f"projection/{inner}")}.get(kind, ("", name))


def leaves(tree: Any) -> dict[str, Any]:
    """Path -> leaf, numbers in the order of numbers."""
    flat = {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree.leaves_with_path(tree)}
    by_number = sorted(flat, key=lambda k: [(int(n), "") if n.isdigit() else (-1, n) for n in re.split(r"(\d+)", k)])
    return {k: flat[k] for k in by_number}


def shapes(module: Encoders | Clip) -> dict[str, jax.ShapeDtypeStruct]:
    """Path -> shape of the variables of encoders."""
    return leaves(jax.eval_shape(lambda: initial(module)))
