"""Origin of each student tensor under weight inheritance, determined from shapes.

The meaning of each tensor axis is given by a table, never inferred from equal sizes.
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
from mmkd_jax.pretrained.attributes import attributes
from mmkd_jax.pretrained.loading import initial

Score = Callable[[Any, Any], Any]
Which = Sequence[int] | Sequence[Sequence[int]]

# tensor, or module whose tensors have the last of these axes -> names of the axes
AXES: dict[str, tuple[str, ...]] = {
    "tokens": ("vocabulary", "embed_dim"),
    "positions/embedding": ("positions", "embed_dim"),
    "positions": ("places", "embed_dim"),
    "types": ("types", "embed_dim"),
    "kernel": ("rows", "columns", "colors", "embed_dim"),
    "bias": ("embed_dim",),
    "class": ("embed_dim",),
    "distillation": ("embed_dim",),
    "registers": ("registers", "embed_dim"),
    "norm_embedded": ("embed_dim",),
    "norm": ("embed_dim",),
    "layer/query": ("embed_dim", "heads"),
    "layer/key": ("embed_dim", "heads"),
    "layer/value": ("embed_dim", "heads"),
    "layer/out": ("heads", "embed_dim"),
    "layer/scale_attention": ("embed_dim",),
    "layer/norm_attention": ("embed_dim",),
    "layer/grow": ("embed_dim", "mlp_dim"),
    "layer/shrink": ("mlp_dim", "embed_dim"),
    "layer/scale_output": ("embed_dim",),
    "layer/norm_output": ("embed_dim",),
    "pooler": ("embed_dim", "pooled"),
    "head": ("embed_dim", "space"),
    "probe/probe": ("queries", "embed_dim"),
    "probe/kernel": ("embed_dim", "heads"),
    "probe/bias": ("heads",),
    "probe/out": ("heads", "embed_dim"),
    "probe/norm": ("embed_dim",),
    "probe/grow": ("embed_dim", "mlp_dim"),
    "probe/shrink": ("mlp_dim", "embed_dim"),
    "projection": ("embed_dim", "space"),
}
SIZES = {"heads": "num_heads", "mlp_dim": "mlp_dim", "embed_dim": "embed_dim"}
SIZES |= {"vocabulary": "vocabulary", "positions": "length"}
"""Axis -> attribute of the encoder or of its `config` with its size."""
CHOSEN = (*SIZES, "space")
"""Axes along which a student can inherit a subset."""
PER_LAYER = ("heads", "mlp_dim")
ROWS = ("vocabulary", "positions")
"""Embedding axes: individual rows may keep the student's initialization."""
_LAYER = re.compile(r"((?:stage_(?P<of>\d+)/|.*/)?layer_|block_(?P<stage>\d+)_)(?P<number>\d+)(?P<rest>[/_].*)")


@dataclasses.dataclass(frozen=True)
class SubNetwork:
    """Sub-network of a teacher's encoder that a student inherits; None keeps an axis whole and requires equal sizes.

    Attributes:
        layers: the teacher's layer for each layer of the student, from 0; for ResNet and ConvNeXt, the blocks of each
            stage. See `selection.spread`, `every` and `strided`.
        heads: heads to keep, the same for all layers, or per layer of the student (followed by SigLIP's probe); or a
            function that scores the teacher's heads, such as `selection.head_norms`, to keep the highest-scoring ones.
        mlp_dim: hidden units of the MLPs to keep, specified like `heads`; `selection.mlp_norms` scores them.
        embed_dim: token channels to keep, the same in all layers.
        vocabulary: the teacher's token id for each of the student's; −1 keeps a row's initialization.
        positions: rows of a text encoder's position embeddings, specified like `vocabulary`.
        space: channels to keep of the projection of tokens: CLIP's shared space, SigLIP's text projection.

    Example:
        >>> from mmkd_jax.pretrained import selection
        >>> keep = SubNetwork(layers=selection.every(6, 3), heads=selection.head_norms, embed_dim=range(192))
    """

    layers: Which | None = None
    heads: Which | Score | None = None
    mlp_dim: Which | Score | None = None
    embed_dim: Sequence[int] | None = None
    vocabulary: Sequence[int] | None = None
    positions: Sequence[int] | None = None
    space: Sequence[int] | None = None


class Axis(NamedTuple):
    """Selection along one axis of a tensor.

    Attributes:
        name: name of the axis in the table.
        size: number of units in the teacher: heads, not their channels.
        selected: indices of the units to keep; or a scoring function and the number to keep; None keeps all.
        row: row of the scores.
        each: channels per unit; more than one for heads.
        blocks: number of concatenated copies of the axis: gate and value; query, key and value of a probe.
    """

    name: str
    size: int
    selected: np.ndarray | tuple[Score, int] | None = None
    row: int = 0
    each: int = 1
    blocks: int = 1

    @property
    def length(self) -> int:
        """Length of the axis in the student."""
        if self.selected is None:
            return self.size
        return self.each * self.blocks * (self.selected[1] if isinstance(self.selected, tuple) else len(self.selected))


class TensorOrigin(NamedTuple):
    """Origin of an inherited tensor.

    Attributes:
        source: path of the teacher's tensor.
        shape: shape of the teacher's tensor.
        modality: modality of its encoder.
        axes: selection along each axis.
    """

    source: str
    shape: tuple[int, ...]
    modality: str
    axes: tuple[Axis, ...]


def tensor_origins(
    student: Encoders | Clip, teacher: Encoders | Clip, keep: Mapping[str, SubNetwork], fresh: Sequence[str] = ()
) -> dict[str, TensorOrigin]:
    """Return the origin of each inherited tensor by its path in the student.

    Args:
        student: encoders of the student.
        teacher: encoders of the teacher; it may have more.
        keep: modality -> sub-network to inherit; modalities not listed are inherited whole.
        fresh: paths, without the collection, of variables that are not inherited.

    Raises:
        UserError: the teacher lacks a selected part, or sizes do not match; the message names them.
    """
    both = set(student.encoders) & set(teacher.encoders)
    if unknown := (set(keep) | set(student.encoders)) - both:
        mismatch = f"student and teacher do not both have an encoder for {choices(unknown)}"
        raise UserError(f"{mismatch}; both have: {choices(both)}")
    chosen = {m: _chosen(m, student.encoders[m], teacher.encoders[m], keep.get(m, SubNetwork())) for m in both}
    available, unused, origins, missing = shapes(teacher), set(fresh), {}, {}
    for path, x in shapes(student).items():
        collection, _, name = path.partition("/")
        if matches := {f for f in fresh if f"{name}/".startswith(f"{f}/")}:
            unused -= matches
            continue
        of, inner = within(name)
        its, selected = teacher.encoders.get(of), chosen.get(of, {})
        sizes = {} if its is None else attributes(its)
        attention, row, source = -1, -1, path  # a probe comes last; layers are numbered
        if (layer := _LAYER.fullmatch(inner)) and "layers" in selected:
            attention = int(layer["number"])
            layers = selected["layers"]
            stage = layer["stage"] or layer["of"]
            row = (layers[int(stage)] if stage else layers)[attention]
            source = f"{collection}/encoders_{of}/{layer[1]}{row}{layer['rest']}"
        remedy = f"keep the student's initialization with fresh=({name!r},)"
        if source not in available:
            missing[name] = source.partition("/")[2]
            continue
        names = _axes(inner, x.ndim, its)
        if not names and selected.keys() & {"heads", "mlp_dim", "embed_dim"}:
            raise UserError(f"{name}: its channel and head axes are unknown: keep them whole, or {remedy}")
        axes = []
        for axis, mine, size in zip(names or [""] * x.ndim, x.shape, available[source].shape, strict=True):
            which, each, blocks = selected.get(axis), 1, 1
            if which is not None and axis == "space":
                which = _indices(name, axis, which, mine, size)
            elif which is not None:
                long, size = size, sizes[SIZES[axis]]
                which = which[attention] if axis in PER_LAYER else which
                each = sizes["embed_dim"] // size if axis == "heads" else 1
                blocks = long // (size * each)
            axes.append(Axis(axis, size, which, row, each, blocks))
            if (many := axes[-1].length) != mine:
                select = f"select which to keep, SubNetwork({axis}=…), or " if axis in CHOSEN else ""
                lengths = f"{name} has {mine} along {axis or 'an axis'}, the inherited tensor {many}"
                raise UserError(f"{lengths}: {select}{remedy}")
        origins[path] = TensorOrigin(source, available[source].shape, of, tuple(axes))
    if missing:
        named, more = list(missing)[:5], f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"the teacher has no {', '.join(missing[n] for n in named)}{more}: "
            f"keep the student's initialization with fresh={tuple(named)}"
        )
    if unused:
        raise UserError(f"fresh names {choices(unused)}, which the student does not have")
    idle = {f"{m} {axis}" for m, selected in chosen.items() for axis in selected.keys() - {"layers"}}
    if idle := idle - {f"{row.modality} {axis.name}" for row in origins.values() for axis in row.axes}:
        raise UserError(f"keep selects {choices(idle)}, an axis that the inherited tensors lack")
    return origins


def _chosen(modality, student, teacher, keep) -> dict[str, Any]:
    """Selection along each axis that is not kept whole; for heads and hidden units, one per attention layer."""
    kind, selected = type(teacher).__name__, {}
    if type(student) is not type(teacher):
        raise UserError(f"{modality}: a {type(student).__name__} cannot inherit from a {kind}")
    mine, its = attributes(student), attributes(teacher)
    if "num_heads" in its and mine["embed_dim"] * its["num_heads"] != its["embed_dim"] * mine["num_heads"]:
        sizes = f"the student has num_heads={mine['num_heads']} and embed_dim={mine['embed_dim']}"
        expected = f"its embed_dim must be {its['embed_dim'] // its['num_heads']} times its num_heads"
        raise UserError(f"{modality}: {sizes}, but heads are inherited whole: {expected}")
    if "num_layers" in its:
        many, have = mine["num_layers"], its["num_layers"]
        if keep.layers is None and many != have:
            sizes = f"the student has {many} layers, the teacher {have}"
            raise UserError(f"{modality}: {sizes}: select them with SubNetwork(layers=…)")
        which = range(have) if keep.layers is None else keep.layers
        selected["layers"] = _indices(modality, "layers", which, many, have).tolist()
    elif "depths" in its:
        widths = "widths" if "widths" in its else "heads"
        if mine[widths] != its[widths]:
            sizes = f"the student has {widths} {mine[widths]}; expected the teacher's, {its[widths]}"
            raise UserError(f"{modality}: {sizes}")
        stages = [range(d) for d in its["depths"]] if keep.layers is None else keep.layers
        if len(stages) != len(its["depths"]) or not all(isinstance(which, Sequence) for which in stages):
            expected = f"expected a sequence of blocks for each of {len(its['depths'])} stages"
            raise UserError(f"{modality}: layers={keep.layers}; {expected}")
        depths = zip(stages, mine["depths"], its["depths"], strict=True)
        selected["layers"] = [_indices(modality, f"layers of stage {i}", *n).tolist() for i, n in enumerate(depths)]
    elif keep.layers is not None:
        raise UserError(f"{modality}: {kind} has no layers to select")
    for axis in (a for a in CHOSEN if getattr(keep, a) is not None):
        which, attribute = getattr(keep, axis), SIZES.get(axis, "embed_dim")
        if attribute not in its:
            raise UserError(f"{modality}: {kind} has no {axis} to select")
        want, have = mine[attribute], its[attribute]
        if axis in PER_LAYER:
            attentions = mine["num_layers"] + (mine.get("pool") == "probe")
            shared = callable(which) or not isinstance(next(iter(which), 0), Sequence)
            rows = [which] * attentions if shared else which
            if len(rows) != attentions:
                raise UserError(f"{modality}: {axis} has {len(rows)} layers, the student {attentions}")
            for row in rows:
                _indices(modality, axis, range(want) if callable(row) else row, want, have)
            selected[axis] = [(row, want) if callable(row) else np.asarray(tuple(row), np.int32) for row in rows]
        else:
            selected[axis] = which if axis == "space" else _indices(modality, axis, which, want, have)
    return selected


def _indices(where, axis, which, want, have) -> np.ndarray:
    """The selected indices, validated."""
    indices = tuple(which)
    if wrong := [n for n in indices if not (-1 if axis in ROWS else 0) <= n < have]:
        raise UserError(f"{where}: {axis} selects {wrong[0]}; the teacher has {have}, 0 … {have - 1}")
    if len(indices) != want:
        raise UserError(f"{where}: {axis} selects {len(indices)}, the student has {want}")
    if axis in ("heads", "mlp_dim", "embed_dim", "space") and len(set(indices)) < want:
        raise UserError(f"{where}: {axis} selects the same index twice")
    return np.asarray(indices, np.int32)


def _axes(inner, ndim, encoder):
    """Names of a tensor's axes; empty if the table lacks the tensor."""
    name = re.sub(r"^transformer/layer_\d+/", "layer/", inner)
    names = next((AXES[k] for k in (name, name.rpartition("/")[0]) if k in AXES), ())
    if len(names) < ndim:
        return []
    same = "embed_dim" if getattr(encoder, "pooled", None) is None else "pooled"
    return [same if a == "pooled" else a for a in names[-ndim:]]


def within(name: str) -> tuple[str, str]:
    """Return the modality of a variable and its path within the encoder or projection; '' without a modality.

    Example:
        >>> within("encoders_text/tokens/embedding"), within("projection_text/kernel"), within("logit_scale")
        (('text', 'tokens/embedding'), ('text', 'projection/kernel'), ('', 'logit_scale'))
    """
    top, _, inner = name.partition("/")
    kind, _, modality = top.partition("_")
    return {"encoders": (modality, inner), "projection": (modality, f"projection/{inner}")}.get(kind, ("", name))


def leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path, in natural order of the numbers in paths."""
    flat = {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree.leaves_with_path(tree)}
    by_number = sorted(flat, key=lambda k: [(int(n), "") if n.isdigit() else (-1, n) for n in re.split(r"(\d+)", k)])
    return {k: flat[k] for k in by_number}


def shapes(module: Encoders | Clip) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of the variables of encoders by path."""
    return leaves(jax.eval_shape(lambda: initial(module)))
