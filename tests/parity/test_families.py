"""Every family against transformers' own PyTorch models, with the same weights: both ways."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from mmkd_jax import pretrained
from tests.parity.cases import answer, gaps, quiet, reference, saved
from tests.parity.every_case import CASES
from tests.small import equal

# what transformers makes in any case: a pooler, what stands around an encoder of Whisper
MADE = r"pooler\.|(model\.)?decoder\.|(proj_out|projector|classifier)\.|layer_weights"
MADE += r"|embeddings\.mask_token"  # of DINOv2's pretraining


# cases of each kind of module; the others with the slow tests
COMMON = {"bert", "deberta-v3", "modernbert", "vit", "clip", "resnet", "swin", "wav2vec 2.0", "whisper"}
# further variants of families, with the slow tests: each kind of module has a case that stays
VARIANTS = {
    "bert, one head, relu, no pooler",
    "bert, tanh gelu, few positions",
    "xlm-roberta",
    "distilbert, sinusoidal, relu",
    "data2vec, text",
    "modernbert, biases, other wavelengths",
    "vit, no bias, no pooler",
    "dinov2, registers, gated, other images",
    "clip, CLIPTextModel",
    "clip, CLIPVisionModel",
    "siglip, SiglipTextModel",
    "siglip, larger than its patches",
    "swin, positions",
    "swin, other images, filled",
    "resnet, early, silu",
    "convnext, no scale",
    "mobilenet v2, dilated, other paddings",
    "wavlm",
    "hubert",
    "hubert, stable, padded",
    "vivit, one head, no bias, no pooler",
    "timesformer, one head, no bias, larger frames",
    "timesformer, over space, smaller frames",
    "timesformer, over both",
    "whisper, classifying, tanh gelu",
}
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in VARIANTS else name for name in CASES]
SOME = [name if name in COMMON else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.fixture(scope="module", params=EACH)
def pair(request, tmp_path_factory):
    case, folder = CASES[request.param], tmp_path_factory.mktemp("model")
    model = saved(case, folder)
    return case, folder, model, pretrained.load(folder)


def test_outputs_hidden_states_and_attentions_agree(pair):
    case, _, model, loaded = pair
    for name, (gap, size) in gaps(case, answer(loaded, case.batch), reference(model, case)).items():
        assert gap <= 2e-5 * max(1, size), name


def test_what_is_saved_is_read_by_transformers_with_equal_outputs(pair, tmp_path):
    case, _, model, loaded = pair
    pretrained.save(tmp_path, loaded.kind, loaded.module, loaded.variables)
    with quiet():
        again, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    new = {k for k in report["missing_keys"] if not re.match(MADE, k)}
    assert not new and not report["unexpected_keys"]
    for name, x in reference(again.eval(), case).items():
        np.testing.assert_array_equal(x, reference(model, case)[name], err_msg=name)


# one of each stack; those of the same layers with the slow tests (of wav2vec 2.0: test_heads has one)
STACKS = ["bert", "deberta-v2, convolution, own projections", "modernbert", "whisper"]
STACKS += ["swin, other images, filled", "timesformer"]
SAME = ["roberta", "wav2vec 2.0, stable, padded", "vivit", "timesformer, over space"]
SWITCHED = [*STACKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SAME)]


@pytest.mark.parametrize("name", SWITCHED)
def test_switches_change_rounding_alone(name, tmp_path):
    case = CASES[name]
    saved(case, tmp_path)
    plain = answer(pretrained.load(tmp_path), case.batch)
    every: list[dict[str, Any]] = [{"scan": True}, {"remat": True}, {"scan": True, "remat": True}]
    for switches in every:
        other = answer(pretrained.load(tmp_path, **switches), case.batch)
        assert other.keys() == plain.keys()
        for n, x in plain.items():
            np.testing.assert_allclose(other[n], x, atol=1e-5, err_msg=f"{n} with {switches}")


@pytest.mark.parametrize("pair", SOME, indirect=True)
def test_bfloat16_is_within_its_rounding(pair):
    case, folder, model, _ = pair
    rough = answer(pretrained.load(folder, dtype=jnp.bfloat16), case.batch)
    for n, (gap, size) in gaps(case, rough, reference(model, case)).items():
        assert 1e-4 < gap / max(1, size) <= 0.05, n
    assert {x.dtype for n, x in rough.items() if n.startswith("hidden.")} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("pair", SOME, indirect=True)
def test_pickled_weights_are_read_in_both_layouts_and_shards_are_one_model(pair, tmp_path):
    _, folder, model, loaded = pair
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")  # by their published names, which a state dict may not have
    for zipped in (True, False):
        torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert equal(pretrained.load(tmp_path).variables, loaded.variables)
    with quiet():
        model.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert equal(pretrained.load(tmp_path).variables, loaded.variables)


def test_heads_of_other_tasks_are_left_out(tmp_path):
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with quiet():
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    assert not pretrained.load(tmp_path).module.encoders["text"].pooler
