"""Zero-shot classifiers of CLIP and SigLIP against transformers, with the same weights and texts."""

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


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_logits_are_those_of_transformers_for_a_prompt_and_for_ensembles(name, tmp_path):
    """One program for both: the embeddings of the classes are variables."""
    case, model = CASES[name], saved(CASES[name], tmp_path)
    write_tokenizer(tmp_path)
    loaded = pretrained.load(tmp_path)
    one, several = pretrained.zero_shot(loaded, PROMPTS), pretrained.zero_shot(loaded, ENSEMBLE)
    batch = {"image": case.batch["image"], "example_id": np.arange(3, dtype=np.int32)}
    run = jax.jit(lambda v: predict(one.model, v, batch)["logits"])

    texts, images, expected = theirs(case, model, loaded, list(PROMPTS.values()))
    assert run(one.variables).shape == expected.shape == (3, 3) and np.ptp(expected) > 0.1
    assert gap(run(one.variables), expected) <= 2e-5

    texts, images, _ = theirs(case, model, loaded, [t for each in ENSEMBLE.values() for t in each])
    means = unit(np.stack([x.mean(0) for x in np.split(unit(texts), [3, 4])]))
    bias = model.logit_bias.item() if name == "siglip" else 0
    expected = model.logit_scale.exp().item() * unit(images) @ means.T + bias
    assert gap(run(several.variables), expected) <= 2e-5

    if name == "clip":
        half = pretrained.zero_shot(pretrained.load(tmp_path, dtype=jnp.bfloat16), PROMPTS)
        rough = jax.jit(lambda v: predict(half.model, v, batch)["logits"])(half.variables)
        assert rough.dtype == np.float32 and 1e-5 < gap(rough, run(one.variables)) <= 0.05


def theirs(case, model, loaded, texts):
    """Embeddings of texts and images, and logits_per_image."""
    columns = loaded.processor.text(texts)
    inputs = {"input_ids": columns["text.ids"], "pixel_values": case.inputs["pixel_values"]}
    if loaded.kind == "clip":
        inputs["attention_mask"] = columns["text.mask"].astype(int)
    with torch.no_grad():
        out = model(**{k: torch.as_tensor(x) for k, x in inputs.items()})
    return [x.numpy() for x in (out.text_embeds, out.image_embeds, out.logits_per_image)]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def gap(x, y):
    return np.abs(x - y).max() / max(1, np.abs(y).max())
