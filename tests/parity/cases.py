"""Published models with the same weights in PyTorch and here: small ones of every family, drawn at random.

Every parameter and buffer is drawn anew, so that a bias, a norm's statistics or a table that is left out is noticed.
"""

import contextlib
import logging
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import transformers

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.models import Wav2Vec2, WavLM

ROWS = 3
TOWERS = ("text", "image")


class Case(NamedTuple):
    """A model of PyTorch and what it is compared on.

    Attributes:
        family: the row's name in the table.
        make: gives the model.
        batch: columns, as ours takes them.
        inputs: the model's arguments for them.
        outputs: our name -> theirs, of the model's output.
        attends: whether the model has attention maps.
    """

    family: str
    make: Callable[[], torch.nn.Module]
    batch: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: Callable[[Any], dict[str, torch.Tensor]]
    attends: bool = True


def stack(modality: str, out: Any) -> dict[str, torch.Tensor]:
    """What every Transformer of transformers gives."""
    found = {f"hidden.{modality}.{i}": x for i, x in enumerate(out.hidden_states)}
    return found | {f"attentions.{modality}.{i}": x for i, x in enumerate(out.attentions)}


def spoil(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter and floating buffer drawn anew, with scales that keep the hidden states of the size of one."""
    generator, published = torch.Generator().manual_seed(seed), model.state_dict().keys()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if x.is_floating_point() and name in published:  # ModernBERT's wavelengths are not
                noise = torch.randn(x.shape, generator=generator)
                if name.endswith("running_var"):
                    x.copy_(noise.abs() + 0.5)
                else:
                    width = x.shape[1] if x.shape[2:] == (1, 1) else x.shape[-1] if x.ndim else 1  # 1 × 1 convolutions
                    x.copy_(noise * (width**-0.5 if x.ndim > 1 else 0.3) + (x.ndim == 1) * (x == 1).float())
    return model.eval()


@contextlib.contextmanager
def quiet():
    """transformers' progress bars and notes are not what a test wants to show."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(before)


def reference(model: torch.nn.Module, case: Case) -> dict[str, np.ndarray]:
    """What PyTorch says."""
    asked = {"output_hidden_states": True}
    if case.attends:  # by default transformers' attention gives no maps
        model.set_attn_implementation("eager")
        asked["output_attentions"] = True
    with torch.no_grad():
        out = model(**{k: torch.as_tensor(x) for k, x in case.inputs.items()}, **asked)
    return {k: x.numpy() for k, x in case.outputs(out).items()}


def answer(loaded: pretrained.Pretrained, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What we say."""
    model = linen(loaded.module)
    seen = batch | {"example_id": np.arange(len(next(iter(batch.values()))), dtype=np.int32)}
    run = jax.jit(lambda v, b: model.apply(v, b, StepContext(0, jax.random.key(0), False), {})[0])
    found: dict[str, np.ndarray] = {k: np.asarray(x) for k, x in run(loaded.variables, seen).items()}
    for modality, encoder in loaded.module.encoders.items():
        if isinstance(encoder, Wav2Vec2) and f"{modality}.mask" in batch:
            found[f"frames.{modality}"] = np.asarray(encoder.frames(batch[f"{modality}.mask"]))
        if isinstance(encoder, WavLM):  # transformers gives the mean over the heads in each one's place
            maps = {k: x for k, x in found.items() if k.startswith(f"attentions.{modality}.")}
            found |= {k: np.broadcast_to(x.mean(1, keepdims=True), x.shape) for k, x in maps.items()}
    if "logit_scale" in found:
        text, image = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found[f"embedding.{m}"] for m in TOWERS))
        found["similarity"] = np.exp(found["logit_scale"]) * text @ image.T + found.get("logit_bias", 0)
    return found


def saved(case: Case, folder: pathlib.Path) -> torch.nn.Module:
    """The case's model, written to the folder as transformers does."""
    with quiet():
        model = spoil(case.make())
        model.save_pretrained(folder)
    return model


def gaps(case: Case, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Name -> largest difference and largest reference value, of the tokens that are there."""
    found = {}
    for name, x in theirs.items():
        y = ours[name]
        assert x.shape == y.shape, f"{name}: {y.shape}, expected {x.shape}"
        kind, modality = f"{name}.".split(".")[:2]
        modality = next(iter(case.batch)).partition(".")[0] if kind == "logits" else modality
        mask = ours.get(f"frames.{modality}", case.batch.get(f"{modality}.mask"))
        if mask is not None and (kind in ("hidden", "tokens") or (kind == "logits" and x.ndim == 3)):
            x, y = x[mask], y[mask]
        elif mask is not None and kind == "attentions":
            x, y = (np.moveaxis(z, 1, 2)[mask] for z in (x, y))
        found[name] = float(np.abs(x - y).max()), float(np.abs(x).max())
    return found
