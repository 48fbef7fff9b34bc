"""Fusions that do not fit a model or a task: refused before the first step."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import tasks
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import combine
from mmkd_jax.data import InMemory, from_columns
from mmkd_jax.errors import UserError
from mmkd_jax.models import AudioCNN, ImageMLP, Multimodal, fusion
from mmkd_jax.training.roles import Trained
from mmkd_jax.training.training import Training
from mmkd_jax.typing import Count
from tests.never_silent.setting import train

KINDS = {n: kind for n, kind in vars(fusion).items() if isinstance(kind, type)}
NEEDED = {"FiLM": {"by": "text", "on": "image"}, "Late": {"classes": 3}}
SIZES = [(n, f.name) for n, kind in KINDS.items() for f in dataclasses.fields(kind) if f.type in (Count, Count | None)]


def refused(tmp_path, model, task=None, **changes):
    """The message of a run on three modalities that did not take a step."""
    draw, task = np.random.default_rng(0), task or tasks.classification(3)
    columns = {m: draw.random((6, 2, 2, 1), np.float32) for m in ("image", "other", "text")}
    loader = InMemory(from_columns(columns | {"label": np.arange(6) % 3} | changes, "made-up"), 6)
    shared = {"task": task, "data": loader, "validation": loader, "test": loader, "steps": 1}
    training = Training({"net": Trained(linen(model))}, combine(task=task.objective("net")), optax.sgd(0.1), **shared)
    with pytest.raises(UserError) as error:
        train(tmp_path / "run", {"net": training})
    assert not (tmp_path / "run/trainings").exists() and len(str(error.value)) < 500
    return str(error.value)


def encoders(*modalities):
    return {m: ImageMLP((4,)) for m in modalities}


@pytest.mark.parametrize(("name", "field"), SIZES)
def test_sizes(name, field):
    """A width, a rank, or a number of heads, layers, experts or classes that is not 1 or more → refused."""
    with pytest.raises(UserError, match=f"{name}: {field} is 0; expected a whole number, 1 or more"):
        KINDS[name](**NEEDED.get(name, {}) | {field: 0})


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("Attention", {"width": 6, "heads": 4}, "Attention: heads is 4; expected a divisor of width, 6"),
        ("Bottleneck", {"width": 6, "heads": 4}, "Bottleneck: heads is 4; expected a divisor of width, 6"),
        ("CrossModal", {"width": 6, "heads": 4}, "CrossModal: heads is 4; expected a divisor of width, 6"),
        ("Perceiver", {"width": 6, "heads": 4}, "Perceiver: heads is 4; expected a divisor of width, 6"),
        ("MoE", {"experts": 2, "top_k": 3}, "MoE: top_k is 3; expected at most the number of experts, 2"),
    ],
)
def test_options_that_do_not_fit(kind, options, words):
    """Heads that do not divide the width, more experts for a row than there are → refused."""
    with pytest.raises(UserError, match=words):
        KINDS[kind](**options)


@pytest.mark.parametrize("by", ["text", "words"])
def test_modalities_of_film(by, tmp_path):
    """A fusion of two named modalities in a model with others → refused, instead of ignoring the others."""
    modalities = ("image", "text", "other") if by == "text" else ("image", "text")
    said = refused(tmp_path, Multimodal(encoders(*modalities), 3, 4, fusion.FiLM(by, "image", 4)))
    assert f"FiLM: by is '{by}' and on is 'image'; expected the model's two modalities; it has: image, " in said


def test_a_bilinear_form_of_three(tmp_path):
    """A bilinear form, which has two sides, for three modalities → refused; low-rank forms take any number."""
    said = refused(tmp_path, Multimodal(encoders("image", "text", "other"), 3, 4, fusion.Multiplicative(4)))
    assert "Multiplicative: rank is None; expected a rank, such as 4, for 3 modalities (image, other, text)" in said


@pytest.mark.parametrize("option", ["classes", "head", "auxiliary", "width", "dropout", "batch_norm"])
def test_options_of_an_embedding_that_late_fusion_lacks(option):
    """An option of the embedding or the classifier of a model whose fusion gives the logits → refused."""
    value: Any = {"classes": 3, "head": tasks.classification(3).head, "width": 32, "dropout": 0.5}.get(option, True)
    with pytest.raises(UserError, match=f"Late gives the logits itself; leave out {option}"):
        Multimodal(encoders("image"), fusion=fusion.Late(3), **{option: value})


@pytest.mark.parametrize("kind", ["multi_label", "visual_questions"])
def test_late_fusion_for_classes_that_do_not_exclude_each_other(kind, tmp_path):
    """Log-probabilities of late fusion, for a task that takes a sigmoid of each → refused."""
    task = {"multi_label": tasks.multi_label(3), "visual_questions": tasks.visual_questions(3)}[kind]
    label = np.eye(3, dtype=np.float32 if kind == "visual_questions" else np.int8)[np.arange(6) % 3]
    said = refused(tmp_path, Multimodal(encoders("image"), fusion=fusion.Late(3)), task=task, label=label)
    assert "the logits of 'net' exclude each other (single_label_classification), the task has" in said


@pytest.mark.parametrize("form", ["coral", "corn"])
def test_late_fusion_for_thresholds_between_levels(form, tmp_path):
    """Log-probabilities of late fusion, as many as an ordinal task has thresholds, whose sigmoid it takes → refused."""
    said = refused(tmp_path, Multimodal(encoders("image"), fusion=fusion.Late(2)), task=tasks.ordinal(3, form))
    assert "of 'net' exclude each other (single_label_classification), the task has a logit for each threshold" in said


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", ["classification", "ordinal"])
def test_late_fusion_for_another_number_of_classes(kind, classes, tmp_path):
    """Late fusion of more or fewer classes than the task has classes or levels → refused."""
    task = {"classification": tasks.classification(3), "ordinal": tasks.ordinal(3, "expected")}[kind]
    said = refused(tmp_path, Multimodal(encoders("image"), fusion=fusion.Late(classes)), task=task)
    assert f"'logits' has shape [6, {classes}]" in said
    assert {"classification": "for 3 classes", "ordinal": "3 levels in the form 'expected' need 3 logits"}[kind] in said


def test_a_single_layer_of_bottlenecks():
    """Shared tokens that a modality writes in the only layer, and none reads → refused; two layers exchange."""
    with pytest.raises(UserError, match="layers is 1; expected 2 or more: what a layer writes to the shared tokens"):
        fusion.Bottleneck(layers=1)


@pytest.mark.parametrize("name", ["Bottleneck", "CrossModal", "Perceiver"])
def test_an_encoder_without_tokens(name, tmp_path):
    """A fusion of tokens on an encoder that has only vectors → refused, with the encoder's outputs and the remedy."""
    said = refused(tmp_path, Multimodal(encoders("image", "text"), 3, 4, KINDS[name]()))
    assert f"{name}: the encoder of 'image' has no tokens, only features.image, hidden.image.0: take an encoder" in said
    assert "or a fusion of vectors such as models.fusion.Gated" in said


class Halving(nn.Module):
    """An encoder that pools over the mask of its modality, and halves it."""

    mask: str = ""

    @nn.compact
    def __call__(self, batch, modality, ctx, tap):
        mask, x = batch[f"{modality}.mask"], batch[modality]
        if self.mask:
            tap(f"tokens_mask.{modality}", mask[:, ::2] if self.mask == "halved" else mask)
        x = tap(f"hidden.{modality}.0", nn.Dense(4)(jnp.where(mask[..., None], x, 0)[:, ::2]))
        return x.mean(1)


@pytest.mark.parametrize("mask", ["", "whole"])
def test_padding_among_tokens(mask, tmp_path):
    """A fusion of tokens on a user's encoder that gives no mask of its tokens, or one of another shape → refused."""
    columns = {"audio": np.ones((6, 4, 3), np.float32), "audio.mask": np.ones((6, 4), bool)}
    said = refused(tmp_path, Multimodal({"audio": Halving(mask)}, 3, 4, fusion.Perceiver(2, 1, 4, 2)), **columns)
    other = "tokens_mask.audio has shape [6, 4], but the tokens of its encoder [6, 2, 4]: tap the mask of the last"
    bare = "the batch has audio.mask, but the encoder no output 'tokens_mask.audio': pass the mask of its tokens [b, l]"
    assert f"Perceiver: {other if mask else bare}" in said
    assert mask or "through tap('tokens_mask.audio', …) in Halving" in said


def test_padding_that_an_encoder_masks():
    """The same encoder with the mask of its tokens, or one whose padding counts → runs."""
    batch = {"audio": jnp.ones((6, 4, 3)), "audio.mask": jnp.ones((6, 4), bool), "example_id": jnp.arange(6)}
    for encoder in (Halving("halved"), AudioCNN((3,))):
        model = linen(Multimodal({"audio": encoder}, 3, 4, fusion.Perceiver(2, 1, 4, 2)))
        jax.eval_shape(model.init, jax.random.key(0), batch)
