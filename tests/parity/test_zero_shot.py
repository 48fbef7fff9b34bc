"""Zero-shot classifiers of CLIP and SigLIP against transformers' `logits_per_image`, with the same weights and texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from mmkd_jax import pretrained
from mmkd_jax.core.model import predict
from tests.parity.cases import saved
from tests.parity.image_cases import CASES

END = 49
PROMPTS = {"cat": "w7 w3", "dog": "w4", "old owl": "w5 w6 w7 w8 w9 w2"}
ENSEMBLE = {"cat": ["w7 w3", "w20", "w9 w9 w4"], "dog": ["w4"], "old owl": ["w5 w6", "w30 w7 w8 w9"]}


def write_tokenizer(folder):
    """Words w2 … w48, and the end of the text, which is padding as well."""
    made = tokenizers.Tokenizer(models.WordLevel({f"w{i}": i for i in range(END)} | {"<end>": END}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", END)])
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=["clip", "clip, old end, exact gelu", "siglip"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = saved(CASES[request.param], folder)
    write_tokenizer(folder)
    return CASES[request.param], folder, model, pretrained.load(folder)


def logits(classifier, pixels):
    batch = {"image": pixels, "example_id": np.arange(len(pixels), dtype=np.int32)}
    return np.asarray(jax.jit(lambda v, b: predict(classifier.model, v, b)["logits"])(classifier.variables, batch))


def theirs(pair, texts):
    """All outputs of transformers for these texts and the images of the case."""
    case, _, model, loaded = pair
    columns = loaded.processor.text(texts)
    inputs = {"input_ids": columns["text.ids"], "pixel_values": case.inputs["pixel_values"]}
    if loaded.kind == "clip":
        inputs["attention_mask"] = columns["text.mask"].astype(int)
    with torch.no_grad():
        return model(**{k: torch.as_tensor(x) for k, x in inputs.items()})


def test_logits_are_those_of_transformers(pair):
    case, _, _, loaded = pair
    found = logits(pretrained.zero_shot(loaded, PROMPTS), case.batch["image"])
    expected = theirs(pair, list(PROMPTS.values())).logits_per_image.numpy()
    assert found.shape == expected.shape == (3, 3) and np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() <= 2e-5 * max(1, np.abs(expected).max())


def test_an_ensemble_is_the_mean_of_normalized_embeddings_normalized_again(pair):
    case, _, model, loaded = pair
    found = logits(pretrained.zero_shot(loaded, ENSEMBLE), case.batch["image"])
    out = theirs(pair, [t for each in ENSEMBLE.values() for t in each])
    texts, images = (
        x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (out.text_embeds, out.image_embeds)
    )
    means = np.stack([x.mean(0) for x in np.split(texts, [3, 4])])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    bias = model.logit_bias.item() if loaded.kind == "siglip" else 0
    expected = model.logit_scale.exp().item() * images @ means.T + bias
    assert np.abs(found - expected).max() <= 2e-5 * max(1, np.abs(expected).max())


def test_logits_in_bfloat16_are_within_its_rounding(pair):
    case, folder, _, loaded = pair
    rough = logits(pretrained.zero_shot(pretrained.load(folder, dtype=jnp.bfloat16), PROMPTS), case.batch["image"])
    exact = logits(pretrained.zero_shot(loaded, PROMPTS), case.batch["image"])
    assert rough.dtype == np.float32
    assert 1e-5 < np.abs(rough - exact).max() / max(1, np.abs(exact).max()) <= 0.05
