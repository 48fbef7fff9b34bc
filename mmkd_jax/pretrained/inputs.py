"""Other names for the inputs of a pretrained model, so that two models of one modality read one batch."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from mmkd_jax.errors import UserError, choices
from mmkd_jax.pretrained.clip import Both
from mmkd_jax.pretrained.loading import Pretrained


def with_inputs(loaded: Pretrained, **inputs: str) -> Pretrained:
    """Return a pretrained model that reads a modality under another name, which its processor writes.

    Teacher and student often read one photo in different sizes: `image` and `teacher_image`. The outputs of the model
    and its variables keep their names, such as `features.image`.

    Args:
        loaded: pretrained model.
        **inputs: modality of the model -> its name in the batch.

    Raises:
        UserError: the model has no such modality, or a name is empty or that of a further input.

    Example:
        >>> from mmkd_jax.data import Pictures
        >>> from mmkd_jax.models import Encoders, TransformerConfig, Vit
        >>> from mmkd_jax.pretrained import initial
        >>> config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
        >>> module = Encoders({"image": Vit(config=config, size=(4, 4), patch=(2, 2))})
        >>> loaded = Pretrained(module, initial(module), Pictures(size=(4, 4)), "vit")
        >>> with_inputs(loaded, image="teacher_image").processor.modality
        'teacher_image'
    """
    known = loaded.module.encoders
    if unknown := [k for k in inputs if k not in known]:
        raise UserError(f"{choices(unknown)}: the model reads {choices(known)}")
    before = {m: loaded.inputs.get(m, m) for m in known}
    after = before | inputs
    if not all(isinstance(x, str) and x for x in inputs.values()) or len(set(after.values())) < len(after):
        raise UserError(f"inputs={inputs!r}; expected a name of each input, all different")
    names = {before[m]: after[m] for m in known}
    changed = {m: x for m, x in after.items() if m != x}
    return loaded._replace(processor=_renamed(loaded.processor, names), inputs=changed)


def _renamed(processor: Any, names: Mapping[str, str]) -> Any:
    """Return a processor whose columns have other names; `names` is old -> new."""
    if isinstance(processor, Both):
        text, image = (_renamed(each, names) for each in (processor.text, processor.image))
        return dataclasses.replace(processor, text=text, image=image)
    modality = names.get(getattr(processor, "modality", ""))
    if modality is None:  # a folder without a tokenizer
        return processor
    if dataclasses.is_dataclass(processor) and not isinstance(processor, type):
        return dataclasses.replace(processor, modality=modality)
    renamed: Any = copy.copy(processor)
    renamed.modality = modality
    return renamed
