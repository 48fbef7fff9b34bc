"""Sentence embeddings of sentence-transformers folders, against those recorded in sentence_references.json."""

import json
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from mmkd_jax.models import Encoders, Projection, SentenceHead, TaskHead, TransformerConfig, Vit
from mmkd_jax.models.sentence import POOLINGS
from tests.pretrained import hostile_modules, sentence_references, sentences
from tests.pretrained.hostile_pickles import tensor, text, whole, zipped
from tests.small import equal

REFERENCES = json.loads(sentence_references.FILE.read_text())


def outputs(loaded, texts=sentences.TEXTS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts are cut
        batch = loaded.processor(texts)
    batch["example_id"] = np.arange(len(texts), dtype=np.int32)
    ctx = StepContext(0, jax.random.key(0), train=False)  # without jit: the operations are compiled for all cases
    found = linen(loaded.module).apply(loaded.variables, {k: jnp.asarray(x) for k, x in batch.items()}, ctx, {})[0]
    return {k: np.asarray(x) for k, x in found.items()}


@pytest.fixture
def folder(tmp_path):
    sentences.write(sentences.CASES["one mode"], tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sentences.CASES)
def test_embeddings_are_those_of_sentence_transformers_and_saved_with_equal_ones(name, tmp_path):
    case = sentences.CASES[name]
    sentences.write(case, tmp_path / "published")
    loaded = pretrained.load(tmp_path / "published")
    found = outputs(loaded)
    np.testing.assert_allclose(found["embedding"], REFERENCES[name], atol=2e-5)
    only_first = name == "CLS"
    assert loaded.module.encoders["text"].pool == ("first" if only_first else "mean")
    assert "logits" not in found and loaded.labels == ()
    pretrained.save(tmp_path / "saved", loaded.kind, loaded.module, loaded.variables, loaded.processor)
    again = pretrained.load(tmp_path / "saved")
    assert equal(again.variables, loaded.variables) and again.module == loaded.module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts are cut
        for column, x in again.processor(sentences.TEXTS).items():
            np.testing.assert_array_equal(x, loaded.processor(sentences.TEXTS)[column])


def test_the_encoder_alone_has_the_features_of_the_folder(tmp_path):
    sentences.write(sentences.CASES["CLS"], tmp_path)
    loaded, alone = pretrained.load(tmp_path), pretrained.load(tmp_path, heads=False)
    found = outputs(alone)
    assert not alone.module.heads and "embedding" not in found
    np.testing.assert_allclose(found["features.text"], outputs(loaded)["embedding"], atol=1e-6)
    assert pretrained.load(tmp_path, pool="mean").module.encoders["text"].pool == "mean"
    assert isinstance(alone.processor, Tokenizer) and alone.processor.length == 16


def test_other_modules_leave_the_encoder_alone(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.LSTM"
    sentences.write_json(folder / "modules.json", modules)
    with pytest.raises(UserError, match="lists sentence_transformers.models.LSTM; .*: pass heads=False"):
        pretrained.load(folder)
    assert pretrained.load(folder, heads=False).module.encoders["text"].pool == "mean"
    sentences.write_json(folder / "modules.json", modules[:1])  # a fine-tuned model, with its own head if it has one
    assert not pretrained.load(folder).module.heads


def test_a_dense_layer_is_read_from_a_pickle(folder):
    weight, bias = (load_file(folder / "2_Dense" / "model.safetensors")[f"linear.{n}"] for n in ("weight", "bias"))
    before = pretrained.load(folder).variables
    (folder / "2_Dense" / "model.safetensors").unlink()
    count = whole(weight.size + bias.size)  # both are views of one storage
    size = (whole(6), whole(8))
    state = text("linear.weight") + tensor(size=size, stride=(whole(8), whole(1)), count=count)
    state += text("linear.bias") + tensor(whole(weight.size), size[:1], (whole(1),), count=count)
    values = {"data/0": weight.tobytes() + bias.tobytes()}
    zipped(folder / "2_Dense" / "pytorch_model.bin", b"\x80\x02}(" + state + b"u.", values)
    assert equal(pretrained.load(folder).variables, before)


def test_in_bfloat16_the_embedding_is_float32_and_within_rounding(folder):
    found = outputs(pretrained.load(folder, dtype=jnp.bfloat16))
    gap = np.abs(found["embedding"] - np.array(REFERENCES["one mode"])).max()
    assert found["embedding"].dtype == np.float32 and 1e-5 < gap < 0.1


def embedded(head, hidden, mask) -> Any:
    return head.apply({}, {"hidden.text.0": hidden}, "text", mask)


def test_a_row_without_tokens_is_finite_in_every_pooling_and_has_no_influence_on_gradients():
    hidden = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)), jnp.float32)
    mask = jnp.array([[True, True, True, False], [False] * 4, [False, True, True, False]])
    for name in POOLINGS:
        head = SentenceHead((name,), ("normalize",))
        found = embedded(head, hidden.at[1].set(jnp.nan).at[0, 3].set(jnp.nan), mask)
        np.testing.assert_array_equal(found[1], np.zeros(2))
        gradient = jax.grad(lambda x, head=head: embedded(head, x, mask).sum())(hidden)
        assert np.isfinite(gradient).all() and not gradient[1].any() and gradient[0].any(), name
        pooled, alone = SentenceHead((name,)), hidden[2:, 1:3]
        expected = embedded(pooled, alone, None)[0]  # padding on the left has no effect
        np.testing.assert_allclose(embedded(pooled, hidden, mask)[2], expected, atol=1e-6, err_msg=name)


def test_logits_are_the_mean_of_heads_of_logits_alone(folder):
    loaded = pretrained.load(folder)
    tuned = pretrained.with_head(loaded, ("no", "yes"), "BertForTokenClassification")
    assert [*tuned.module.heads] == ["logits"] and not any("heads" in k for k in tuned.variables["params"])
    heads = {"embedding": loaded.module.heads["embedding"]}
    heads |= {f"{n}_logits": TaskHead(2, read="first") for n in ("a", "b")}
    both = loaded._replace(module=loaded.module.clone(heads=heads))
    found = outputs(both._replace(variables=pretrained.initial(both.module)))
    np.testing.assert_allclose(found["logits"], (found["a_logits"] + found["b_logits"]) / 2, atol=1e-6)
    assert found["embedding"].shape == (5, 6)


def test_saving_names_what_it_cannot_write(folder):
    loaded = pretrained.load(folder)
    encoder = pretrained.load(folder, heads=False)
    with pytest.raises(UserError, match="has modules.json of another model"):
        pretrained.save(folder, encoder.kind, encoder.module, encoder.variables)
    head = SentenceHead(("mean",), (Projection(6, "silu"),))
    module = Encoders(dict(loaded.module.encoders), {"embedding": head})
    with pytest.raises(UserError, match="Dense has no activation 'silu'; expected GELU, Identity, ReLU, Tanh"):
        pretrained.save(folder / "new", loaded.kind, module, pretrained.initial(module))
    assert not (folder / "new").exists()


def test_an_embedding_is_of_a_text_encoder(tmp_path):
    small = Encoders({"image": Vit((4, 4), (2, 2), config=TransformerConfig(8, 1, 2, 12))})
    pretrained.save(tmp_path, "vit", small, pretrained.initial(small))
    hostile_modules.write(tmp_path, hostile_modules.pooling(**hostile_modules.MEAN))
    with pytest.raises(UserError, match="modules.json: a sentence embedding of 'vit'; expected: albert, bert, "):
        pretrained.load(tmp_path)
