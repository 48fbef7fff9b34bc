"""Pretrained encoders from Hugging Face folders as Linen modules, and back; PyTorch is never imported."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files
from mmkd_jax.errors import UserError, choices
from mmkd_jax.given import Given
from mmkd_jax.models.clip import Clip
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import (
    ast,
    bert,
    clip,
    convolutional,
    efficientnet,
    folder,
    mapping,
    video,
    vit,
    voice,
    wav2vec2,
    whisper,
)
from mmkd_jax.views import Context

_FILES = (bert, vit, clip, convolutional, efficientnet, wav2vec2, whisper, ast, voice, video)
FAMILIES: Mapping[str, ModuleType] = {kind: family for family in _FILES for kind in family.FIELDS}
"""`model_type` of config.json -> the file that reads it."""


class Pretrained(NamedTuple):
    """What a folder holds.

    Attributes:
        module: a Linen module, for `views.linen`; every intermediate is an output.
        variables: its variables, NumPy arrays in float32.
        processor: raw inputs -> columns of a batch.
        kind: `model_type`.
    """

    module: Encoders | Clip
    variables: Any
    processor: Callable[..., dict[str, np.ndarray]]
    kind: str


def load(path_or_id: str | os.PathLike, dtype: Any = None, **switches: Any) -> Pretrained:
    """A pretrained encoder: module, variables and processor.

    Args:
        path_or_id: a folder with config.json and weights (safetensors, or .bin through a restricted unpickler); or an
            id of the hub, which is read from the local cache, and downloaded where it is not there.
        dtype: of the computation, such as jnp.bfloat16; the parameters are float32 in any case.
        switches: further attributes of the encoder in the place of the configuration's: remat, scan, pool, dropout …

    Raises:
        UserError: no config.json, a `model_type` or a switch that does not exist; tensors that are missing, unexpected,
            of another shape or damaged, by name; a .bin file that asks for more than tensors.

    Example:
        >>> import tempfile
        >>> from mmkd_jax.models import Bert
        >>> small = Encoders({"text": Bert(9, width=8, layers=1, heads=2, inner=16, length=6)})
        >>> where = tempfile.mkdtemp()
        >>> save(where, "bert", small, initial(small))
        >>> load(where).module.encoders["text"].width
        8
    """
    where = folder.find(path_or_id)
    config = folder.read_json(where, "config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UserError(f"{where}/config.json has model_type {kind!r}; supported are: {choices(FAMILIES)}")
    family = FAMILIES[kind]
    tensors = folder.read_tensors(where)
    processor = family.processor(where, config)
    module = family.build(config, tensors.keys(), processor)
    encoders = module.encoders
    if unknown := [s for s in switches if not any(hasattr(e, s) for e in encoders.values())]:
        kinds = choices(type(e).__name__ for e in encoders.values())
        raise UserError(f"{choices(unknown)}: {kinds} has no such attribute")
    told = switches | {"dtype": dtype}
    encoders = {m: e.clone(**{s: x for s, x in told.items() if hasattr(e, s)}) for m, e in encoders.items()}
    module = module.clone(encoders=encoders)
    shapes = jax.eval_shape(lambda: initial(module))
    variables = mapping.to_flax(tensors, shapes, family.table(kind, module), family.ignored, family.prefix(kind))
    return Pretrained(module, variables, processor, kind)


def save(where: str | os.PathLike, kind: str, module: Encoders | Clip, variables: Any, processor: Any = None) -> None:
    """Write a folder that transformers loads with equal outputs: model.safetensors, config.json, the processor's files.

    Args:
        where: the folder; files of these names are overwritten.
        kind: `model_type`, as `load` gives it.
        module: as `load` gives it.
        variables: its variables; others, such as a classifier's above its encoders, are left out.
        processor: as `load` gives it; None writes none.

    Raises:
        UserError: an unknown kind, or one that is not this encoder's.
    """
    if kind not in FAMILIES:
        raise UserError(f"kind {kind!r}: supported are: {choices(FAMILIES)}")
    family, where = FAMILIES[kind], pathlib.Path(where)
    from safetensors.numpy import save as serialised

    own = {c: {k: variables[c][k] for k in tree} for c, tree in jax.eval_shape(lambda: initial(module)).items()}
    try:
        tensors, config = mapping.from_flax(own, family.table(kind, module)), family.describe(kind, module)
    except (KeyError, AttributeError) as error:
        kinds = choices(type(e).__name__ for e in module.encoders.values())
        raise UserError(f"kind {kind!r} does not describe {kinds}: give the kind that load gave") from error
    files.write(where / "model.safetensors", serialised(tensors, metadata={"format": "pt"}))
    files.write(where / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    for name, content in getattr(processor, "files", {}).items():
        files.write(where / name, content)


def given(name: str, *loaded: Pretrained) -> dict[str, Given]:
    """Pretrained encoders in a part's model: what goes into `Part.take`.

    Args:
        name: of the model, a `Multimodal` with the encoders of `loaded`.
        loaded: from `load`.

    Example:
        >>> from mmkd_jax.models import Bert
        >>> module = Encoders({"text": Bert(9, width=8, layers=1, heads=2, inner=16, length=6)})
        >>> loaded = Pretrained(module, initial(module), lambda texts: {}, "bert")
        >>> list(given("teacher", loaded))
        ['teacher.params.encoders_text']

    Raises:
        UserError: two of them have an encoder of one modality.
    """
    scopes = [s for one in loaded for s in one.variables.get("params", {})]
    if both := {s for s in scopes if scopes.count(s) > 1}:
        raise UserError(f"model {name!r}: {choices(both)} is given twice: name one encoder for each modality")
    return {
        f"{name}.{collection}.{scope}": Given(tree, (f"a pretrained {one.kind}",))
        for one in loaded
        for collection, scopes in one.variables.items()
        for scope, tree in scopes.items()
    }


def initial(module: Encoders | Clip, key: jax.Array | None = None) -> Any:
    """Fresh variables of encoders.

    Args:
        module: of encoders.
        key: of the draw; that of seed 0, if None.
    """
    key = jax.random.key(0) if key is None else key
    batch: dict[str, Any] = {"example_id": jnp.zeros(1, jnp.int32)}
    for modality, encoder in module.encoders.items():
        batch |= encoder.sample(modality)
    return module.init(key, batch, Context(0, key, train=False), {})
