"""Load and save pretrained encoders in Hugging Face format, without PyTorch."""

import contextlib
import json
import os
import pathlib
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files
from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.core.model import StepContext
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.clip import Clip
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import (
    ast,
    bert,
    bounds,
    clip,
    convolutional,
    data2vec,
    deberta,
    efficientnet,
    factorized,
    folder,
    mapping,
    modernbert,
    mpnet,
    video,
    vit,
    voice,
    wav2vec2,
    wavlm,
    whisper,
)
from mmkd_jax.pretrained.attributes import attributes, replaced
from mmkd_jax.training.init_from import PretrainedVariables

_FILES: Any = (bert, vit, clip, convolutional, efficientnet, wav2vec2, whisper, ast, voice, video)
_FILES += (factorized, mpnet, deberta, modernbert, data2vec, wavlm)


@runtime_checkable
class Family(Protocol):
    """Module of this package that supports the `model_type`s of one pretrained family."""

    @property
    def FIELDS(self) -> Collection[str]:
        """Supported `model_type`s."""
        ...

    @property
    def ignored(self) -> tuple[str, ...]:
        """Regular expressions of tensors that are not read, such as those of heads."""
        ...

    def prefix(self, kind: str) -> str:
        """Return the prefix of tensor names in checkpoints with a head."""
        ...

    def processor(self, folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> Any:
        """Return the function from raw inputs to batch columns."""
        ...

    def build(self, config: Mapping[str, Any], names: Collection[str], processor: Any) -> Any:
        """Return the Linen module of a config.json."""
        ...

    def table(self, kind: str, module: Any) -> mapping.Table:
        """Return the tensor name of each variable."""
        ...

    def describe(self, kind: str, module: Any) -> dict[str, Any]:
        """Return the config.json of a module."""
        ...


FAMILIES: Mapping[str, Family] = {kind: family for family in _FILES for kind in family.FIELDS}
"""`model_type` of config.json -> module that supports it."""


class Pretrained(NamedTuple):
    """A pretrained encoder: module, variables and processor.

    Attributes:
        module: Linen module, for `mmkd.linen`; every intermediate is an output.
        variables: variables of the module, NumPy arrays in float32.
        processor: function from raw inputs to batch columns.
        kind: `model_type`.
    """

    module: Encoders | Clip
    variables: Any
    processor: Callable[..., dict[str, np.ndarray]]
    kind: str


def load(path_or_id: str | os.PathLike, dtype: Any = None, *, limits: Limits = DEFAULT, **overrides: Any) -> Pretrained:
    """Load a pretrained encoder from a folder or the Hugging Face hub.

    Args:
        path_or_id: a folder with config.json and weights (safetensors, or .bin through a restricted reader), or a
            hub id, which is read from the local cache or downloaded.
        dtype: computation dtype, such as jnp.bfloat16; parameters are always float32.
        limits: time and memory of the child process that first reads tokenizer.json, whose regular expressions may
            take for ever.
        **overrides: attributes of the encoder or of its `config`, such as remat, scan, dropout or pool.

    Raises:
        UserError: config.json is missing; the `model_type` or an attribute does not exist; tensors are missing,
            unexpected, damaged, quantized, not finite, or have the wrong shape (the message names them); or a .bin
            file contains anything other than tensors.

    Example:
        >>> import tempfile
        >>> from mmkd_jax.models import Bert, TransformerConfig
        >>> config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
        >>> small = Encoders({"text": Bert(9, config, length=6)})
        >>> where = tempfile.mkdtemp()
        >>> save(where, "bert", small, initial(small))
        >>> load(where, scan=True).module.encoders["text"].config.scan
        True
    """
    where = folder.find(path_or_id)
    config = folder.read_json(where, "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{where}/config.json has model_type {reprlib.repr(kind)}; expected one of: {choices(FAMILIES)}"
        )
    if config.get("quantization_config") is not None:
        raise UserError(f"{where}/config.json has quantization_config: fetch the weights before quantization")
    family = FAMILIES[kind]
    tensors = folder.read_tensors(where)
    with _reading(where):
        processor = family.processor(where, config, limits)
        module = family.build(config, tensors.keys(), processor)
        bounds.check_sizes(module, tensors)
    known = {m: attributes(e).keys() for m, e in module.encoders.items()}
    if unknown := [n for n in overrides if not any(n in names for names in known.values())]:
        kinds = choices(type(e).__name__ for e in module.encoders.values())
        raise UserError(f"{choices(unknown)}: {kinds} has no such attribute")
    options = ", ".join(f"{n}={x!r}" for n, x in overrides.items() if n != "dtype")
    overrides["dtype"] = dtype
    own = {m: {n: x for n, x in overrides.items() if n in known[m]} for m in known}
    module = module.clone(encoders={m: replaced(e, **own[m]) for m, e in module.encoders.items()})
    with _reading(where, options if dtype is None else f"{options}, dtype={dtype!r}".strip(", ")):
        shapes = jax.eval_shape(lambda: initial(module))
        variables = mapping.to_flax(tensors, shapes, family.table(kind, module), family.ignored, family.prefix(kind))
    return Pretrained(module, variables, processor, kind)


@contextlib.contextmanager
def _reading(where: pathlib.Path, options: str = "") -> Iterator[None]:
    """Put the folder before errors; one that is no `UserError` is that of a configuration that no model has."""
    try:
        yield
    except UserError as error:
        raise (error if str(error).startswith(str(where)) else error.within(str(where))) from error.__cause__
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        what = f"{where}/config.json with {options}" if options else f"{where}/config.json"
        raise UserError(f"{what} cannot be read: {type(error).__name__}: {shown(first)}") from error


def save(where: str | os.PathLike, kind: str, module: Encoders | Clip, variables: Any, processor: Any = None) -> None:
    """Save an encoder to a folder that transformers loads with equal outputs.

    Writes model.safetensors, config.json and the processor's files.

    Args:
        where: output folder; existing files are overwritten.
        kind: `model_type`, as returned by `load`.
        module: module, as returned by `load`.
        variables: variables of the module; additional ones, such as a classifier's, are not saved.
        processor: processor, as returned by `load`; None writes no processor files.

    Raises:
        UserError: the kind is unknown or does not match the encoder.
    """
    if kind not in FAMILIES:
        raise UserError(f"kind is {kind!r}; expected one of: {choices(FAMILIES)}")
    family, where = FAMILIES[kind], pathlib.Path(where)
    from safetensors.numpy import save as serialized

    saved = {c: {k: variables[c][k] for k in tree} for c, tree in jax.eval_shape(lambda: initial(module)).items()}
    try:
        config, tensors = family.describe(kind, module), mapping.from_flax(saved, family.table(kind, module))
    except (KeyError, AttributeError) as error:
        kinds = choices(type(e).__name__ for e in module.encoders.values())
        raise UserError(f"kind {kind!r} does not describe {kinds}: pass the kind that load returned") from error
    files.write(where / "model.safetensors", serialized(tensors, metadata={"format": "pt"}))
    files.write(where / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    for name, content in getattr(processor, "files", {}).items():
        files.write(where / name, content)


def init_from(*loaded: Pretrained) -> dict[str, PretrainedVariables]:
    """Return initial variables from pretrained encoders, for `Trained(init_from=…)`.

    Args:
        *loaded: pretrained encoders, from `load`; the model, such as a `Multimodal`, contains these encoders.

    Example:
        >>> from mmkd_jax.models import Bert, TransformerConfig
        >>> config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
        >>> module = Encoders({"text": Bert(9, config, length=6)})
        >>> loaded = Pretrained(module, initial(module), lambda texts: {}, "bert")
        >>> list(init_from(loaded))
        ['params.encoders_text']

    Raises:
        UserError: two of them have an encoder for the same modality.
    """
    scopes = [s for one in loaded for s in one.variables.get("params", {})]
    if both := {s for s in scopes if scopes.count(s) > 1}:
        raise UserError(f"init_from: {choices(both)} is given twice: pass one encoder for each modality")
    return {
        f"{collection}.{scope}": PretrainedVariables(tree, (f"a pretrained {one.kind}",))
        for one in loaded
        for collection, scopes in one.variables.items()
        for scope, tree in scopes.items()
    }


def initial(module: Encoders | Clip, key: jax.Array | None = None) -> Any:
    """Initialize the variables of encoders.

    Args:
        module: encoders.
        key: random key; None is that of seed 0.
    """
    key = jax.random.key(0) if key is None else key
    batch: dict[str, Any] = {"example_id": jnp.zeros(1, jnp.int32)}
    for modality, encoder in module.encoders.items():
        batch |= encoder.sample(modality)
    return jax.jit(lambda key: module.init(key, batch, StepContext(0, key, train=False), {}))(key)
