"""Load and save pretrained encoders in Hugging Face format, without PyTorch."""

import contextlib
import json
import os
import pathlib
import re
import reprlib
import types
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from mmkd_jax import files
from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.core.modalities import renamed
from mmkd_jax.core.model import Model, StepContext, linen, with_input
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.clip import Clip
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import (
    ast,
    bert,
    bounds,
    clip,
    convnextv2,
    convolutional,
    data2vec,
    deberta,
    efficientnet,
    factorized,
    folder,
    mapping,
    mobilenet,
    modernbert,
    mpnet,
    registers,
    sentence,
    swin,
    video,
    vit,
    voice,
    wav2vec2,
    wavlm,
    whisper,
)
from mmkd_jax.pretrained import heads as heads_of
from mmkd_jax.pretrained.attributes import attributes, replaced
from mmkd_jax.training.init_from import PretrainedVariables

_FILES: Any = (bert, vit, clip, convolutional, efficientnet, wav2vec2, whisper, ast, voice, video)
_FILES += (factorized, mpnet, deberta, modernbert, data2vec, wavlm, registers, convnextv2, swin, mobilenet)


_TEXTS: Any = (bert, factorized, mpnet, deberta, modernbert)
"""Files of `_FILES` whose processor is a tokenizer."""


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
    """A pretrained model: module, variables and processor. `Trained` and `Frozen` accept it in place of a `Model`.

    Attributes:
        module: Linen module, for `mmkd.linen`; every intermediate is an output.
        variables: variables of the module, NumPy arrays in float32.
        processor: function from raw inputs to batch columns; for CLIP and SigLIP, with the parts `text` and `image`.
        kind: `model_type`.
        labels: names of the classes, in the order of `logits`; empty if config.json has none.
        inputs: modality of the module -> modality of the batch that it reads instead, see `with_inputs`.
    """

    module: Encoders | Clip
    variables: Any
    processor: Any
    kind: str
    labels: tuple[str, ...] = ()
    inputs: Mapping[str, str] = types.MappingProxyType({})

    @property
    def model(self) -> Model:
        """The module as a `Model`."""
        problem = getattr(getattr(self.module, "heads", {}).get("logits"), "problem", "")
        model = linen(self.module)._replace(labels=self.labels, problem=problem)
        model = with_input(model, lambda batch, ctx: renamed(batch, self.inputs)) if self.inputs else model
        return model._replace(origin=self)

    @property
    def source(self) -> dict[str, PretrainedVariables]:
        """Initial values of all its variables, for `init_from`."""
        return _sources(self)


def load(
    path_or_id: str | os.PathLike,
    dtype: Any = None,
    *,
    heads: bool = True,
    ignore: Sequence[str] = (),
    limits: Limits = DEFAULT,
    **overrides: Any,
) -> Pretrained:
    """Load a pretrained encoder from a folder or the Hugging Face hub, with the head of a fine-tuned one.

    The head of an architecture such as BertForSequenceClassification outputs `logits`. A warning names the tensors of
    other heads, which are left out. A folder of sentence-transformers outputs its sentence embedding, `embedding`.

    Args:
        path_or_id: a folder with config.json and weights (safetensors, or .bin through a restricted reader), or a
            hub id, which is read from the local cache or downloaded.
        dtype: computation dtype, such as jnp.bfloat16; parameters are always float32.
        heads: load the head or the sentence embedding; False loads the encoder alone.
        ignore: regular expressions of the names of further tensors to leave out, such as those of a custom head.
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
    found = folder.find(path_or_id)
    with _reading(found):
        modules = sentence.read(found, heads)
    where = modules.encoder
    config = folder.read_json(where, "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{where}/config.json has model_type {reprlib.repr(kind)}; expected one of: {choices(FAMILIES)}"
        )
    if config.get("quantization_config") is not None:
        raise UserError(f"{where}/config.json has quantization_config: fetch the weights before quantization")
    family = FAMILIES[kind]
    if modules.poolings and family not in _TEXTS:
        known = choices(k for text in _TEXTS for k in text.FIELDS)
        raise UserError(f"{found}/modules.json: a sentence embedding of {kind!r}; expected: {known}")
    prefix, skipped = family.prefix(kind), _patterns(ignore)
    tensors = {k: x for k, x in folder.read_tensors(where).items() if not any(p.fullmatch(k) for p in skipped)}
    tensors = mapping.unwrapped(tensors, prefix)
    tensors = {k: x for k, x in tensors.items() if not any(p.fullmatch(k) for p in skipped)}
    with _reading(where):
        options = modules.options if family in _TEXTS else {}
        processor = family.processor(where, config, limits, **options)
        module = family.build(config, tensors.keys(), processor)
        bounds.check_sizes(module, tensors)
        if modules.poolings:
            module = sentence.with_pool(module, modules)
            module = sentence.with_embedding(module, modules) if heads else module
            tensors = {**tensors, **modules.tensors}
        elif heads:
            module = heads_of.with_heads(module, config, {mapping.current_name(k): x for k, x in tensors.items()})
        labels = heads_of.labels(module, config)
    known = {m: attributes(e).keys() for m, e in module.encoders.items()}
    if unknown := [n for n in overrides if not any(n in names for names in known.values())]:
        kinds = choices(type(e).__name__ for e in module.encoders.values())
        raise UserError(f"{choices(unknown)}: {kinds} has no such attribute")
    if "prompts" in overrides:
        raise UserError(f"prompts={overrides['prompts']!r}: the folder has none: add them with pretrained.with_prompts")
    options = ", ".join(f"{n}={x!r}" for n, x in overrides.items() if n != "dtype")
    overrides["dtype"] = dtype
    own = {m: {n: x for n, x in overrides.items() if n in known[m]} for m in known}
    module = module.clone(encoders={m: replaced(e, **own[m]) for m, e in module.encoders.items()})
    if "pool" in overrides and "features" in [getattr(x, "read", "") for x in getattr(module, "heads", {}).values()]:
        raise UserError(f"pool={overrides['pool']!r} would change the input of the head: pass heads=False as well")
    with _reading(where, options if dtype is None else f"{options}, dtype={dtype!r}".strip(", ")):
        shapes = jax.eval_shape(lambda: initial(module))
        table = family.table(kind, module) | heads_of.table(kind, module) | sentence.table(module)
        variables, ignored = mapping.to_flax(tensors, shapes, table, family.ignored, prefix)
    left_out = [k for k in ignored if not any(re.fullmatch(p, k.removeprefix(prefix)) for p in _WITHOUT_USE)]
    if heads and left_out:
        named = ", ".join(map(shown, left_out[:3])) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        of = heads_of.architecture(config) or "the checkpoint"
        warnings.warn(f"{where}: tensors of {of} are not supported and left out: {named}", stacklevel=2)
    if _lacks_processor(processor) and kind not in _DEFINED_HERE:
        warnings.warn(
            f"{where} has no preprocessor_config.json: its processor is the default of transformers for {kind!r}, "
            f"{reprlib.repr(processor)}",
            stacklevel=2,
        )
    return Pretrained(module, variables, processor, kind, labels)


_WITHOUT_USE = (r".*num_batches_tracked", r".*position_ids", r".*mask_token", r".*masked_spec_embed")
_WITHOUT_USE += (r"similarity_(weight|bias)", r"(cls\.)?predictions\.decoder\..*", r"lm_head\.decoder\..*")
_WITHOUT_USE += (r"(vocab_projector|generator_lm_head|decoder)\.weight",)
"""Tensors that change no output: buffers, values for masked inputs in training, and tied tables."""


_DEFINED_HERE = ("efficientnet-lite", "voice-encoder")
"""Kinds whose processor has no file."""


def _lacks_processor(processor):
    """Whether a processor of images or recordings was made without its file."""
    part = getattr(processor, "pictures", getattr(processor, "image", processor))
    return not isinstance(part, Tokenizer) and getattr(part, "files", None) == {}


def _patterns(ignore):
    try:
        return [re.compile(p) for p in ignore]
    except (re.error, TypeError) as error:
        raise UserError(f"ignore={ignore!r}; expected a list of regular expressions ({error})") from None


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


def save(
    where: str | os.PathLike,
    kind: str,
    module: Encoders | Clip,
    variables: Any,
    processor: Any = None,
    labels: Sequence[str] = (),
) -> None:
    """Save an encoder, with its head, to a folder that transformers loads with equal outputs.

    Writes model.safetensors, config.json and the processor's files; for a sentence embedding also the files of
    sentence-transformers.

    Args:
        where: output folder; existing files are overwritten.
        kind: `model_type`, as returned by `load`.
        module: module, as returned by `load`.
        variables: variables of the module; additional ones, such as a classifier's, are not saved.
        processor: processor, as returned by `load`; None writes no processor files.
        labels: names of the classes, in the order of the logits.

    Raises:
        UserError: the kind is unknown or does not match the encoder, the variables lack some of the module's, or the
            labels do not match the head.
    """
    if not isinstance(module, Encoders | Clip):
        raise UserError(f"save: module is {type(module).__name__}; expected that of a pretrained model, `.module`")
    if kind not in FAMILIES:
        raise UserError(f"kind is {kind!r}; expected one of: {choices(FAMILIES)}")
    if getattr(module, "classes", None) is not None:
        raise UserError("a zero-shot classifier has no config.json: save the model that it was made from")
    family, where = FAMILIES[kind], pathlib.Path(where)
    from safetensors.numpy import save as serialized

    shapes = jax.eval_shape(lambda: initial(module))
    if lacking := [f"{c}.{k}" for c, tree in shapes.items() for k in tree if k not in variables.get(c, {})]:
        raise UserError(f"the variables lack {choices(lacking)}: pass those of this module")
    saved = {c: {k: variables[c][k] for k in tree} for c, tree in shapes.items()}
    try:
        config = _with_padding(
            family.describe(kind, module) | heads_of.describe(kind, module, labels), module, processor
        )
        table = family.table(kind, module) | heads_of.table(kind, module) | sentence.table(module)
        tensors = mapping.from_flax(saved, table, heads_of.prefix(kind, module, family.prefix(kind)))
    except (KeyError, AttributeError) as error:
        kinds = choices(type(e).__name__ for e in module.encoders.values())
        raise UserError(f"kind {kind!r} does not describe {kinds}: pass the kind that load returned") from error
    others = sentence.written(module, processor, tensors)
    if not others and (where / "modules.json").exists():
        raise UserError(f"{where} has modules.json of another model, without a use here: pass another folder")
    own = {name for name, _ in sentence.table(module).values()}
    tensors = {k: x for k, x in tensors.items() if k.rpartition(".")[0] not in own}
    files.write(where / "model.safetensors", serialized(tensors, metadata={"format": "pt"}))
    files.write(where / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    for name, content in (others | dict(getattr(processor, "files", {}))).items():
        files.write(where / name, content)


def _with_padding(config, module, processor):
    """Add the padding id of the tokenizer, null if it is unknown, where positions do not depend on that of the encoder.

    A key that is missing would be the default of the family, which may be another token or none of the vocabulary.
    """
    if "text" not in module.encoders:
        return config
    own = {"pad_token_id": getattr(getattr(processor, "text", processor), "padding", None)}
    return config | {"text_config": own | config["text_config"]} if "text_config" in config else own | config


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
    scopes = [s for one in loaded for s in one.variables.get("params", {}) if not s.startswith("heads_")]
    if both := {s for s in scopes if scopes.count(s) > 1}:
        raise UserError(f"init_from: {choices(both)} is given twice: pass one encoder for each modality")
    sources = {path: source for one in loaded for path, source in _sources(one).items()}
    return {path: source for path, source in sources.items() if not path.partition(".")[2].startswith("heads_")}


def _sources(loaded):
    return {
        f"{collection}.{scope}": PretrainedVariables(tree, (f"a pretrained {loaded.kind}",))
        for collection, scopes in loaded.variables.items()
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
