"""Sentence embeddings of sentence-transformers folders, against those recorded in sentence_references.json."""

import json
import warnings

import jax
import numpy as np
import pytest

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.errors import UserError
from mmkd_jax.models import Encoders, Projection, SentenceHead
from tests.pretrained import sentence_references, sentences
from tests.small import equal

REFERENCES = json.loads(sentence_references.FILE.read_text())


def outputs(loaded, texts=sentences.TEXTS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts are cut
        batch = loaded.processor(texts)
    batch["example_id"] = np.arange(len(texts), dtype=np.int32)
    run = jax.jit(lambda v: linen(loaded.module).apply(v, batch, StepContext(0, jax.random.key(0), False), {})[0])
    return {k: np.asarray(x) for k, x in run(loaded.variables).items()}


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
    for one in (sentences.TEXTS[3], sentences.TEXTS[4]):
        np.testing.assert_array_equal(again.processor([one])["text.ids"], loaded.processor([one])["text.ids"])
