"""Real weights on real text and pictures, beside the PyTorch code that they were published for."""

import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from mmkd_jax import pretrained
from mmkd_jax.pretrained import packages
from tests.parity import real, voices
from tests.parity.cases import answer, gaps, quiet, reference
from tests.small import equal


def lost(ours, theirs):
    """What rounding makes of it: the root of the mean square of the differences, relative to that of the values."""
    return np.linalg.norm(ours.astype(np.float32) - theirs) / np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    folder = packages.minilm(tmp_path_factory.mktemp("minilm"))
    with quiet():
        model = transformers.AutoModel.from_pretrained(folder).eval()
    return folder, model, pretrained.load(folder)


def test_the_tokens_are_those_of_transformers(minilm):
    folder, _, loaded = minilm
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = loaded.processor(real.TEXTS)
    expected = theirs(real.TEXTS, padding=True, return_tensors="np")
    np.testing.assert_array_equal(ours["text.ids"], expected["input_ids"])
    np.testing.assert_array_equal(ours["text.mask"], expected["attention_mask"])
    with pytest.warns(UserWarning, match="have more than 12 tokens"):
        ours = loaded.processor(real.TEXTS, pairs=real.TEXTS[::-1], length=12, pad=True)
    expected = theirs(real.TEXTS, real.TEXTS[::-1], truncation=True, max_length=12, padding="max_length")
    np.testing.assert_array_equal(ours["text.ids"], expected["input_ids"])
    np.testing.assert_array_equal(ours["text.types"], expected["token_type_ids"])


def test_the_vocabulary_alone_gives_the_same_tokens(minilm, tmp_path):
    folder, _, loaded = minilm
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    ours = pretrained.load(tmp_path).processor(real.TEXTS)
    np.testing.assert_array_equal(ours["text.ids"], loaded.processor(real.TEXTS)["text.ids"])


def test_hidden_states_attentions_and_embeddings_agree(minilm):
    folder, model, loaded = minilm
    case = real.case(model, loaded.processor(real.TEXTS))
    ours, theirs = answer(loaded, case.batch), reference(model, case)
    for name, (gap, size) in gaps(case, ours, theirs).items():
        assert gap <= 2e-5 * max(1, size), name
    rough = answer(pretrained.load(folder, dtype=jnp.bfloat16), case.batch)
    for name, (gap, size) in gaps(case, rough, theirs).items():
        assert 1e-4 < gap / max(1, size) <= 0.05, name
    last, mask = theirs["hidden.text.6"], case.batch["text.mask"][..., None]
    np.testing.assert_allclose(ours["features.text"], (last * mask).sum(1) / mask.sum(1), atol=1e-5)


def test_saved_with_its_tokenizer_it_is_the_same_model(minilm, tmp_path):
    _, model, loaded = minilm
    pretrained.save(tmp_path, loaded.kind, loaded.module, loaded.variables, loaded.processor)
    with quiet():
        again, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    case = real.case(model, loaded.processor(real.TEXTS[:3]))
    for name, x in reference(again.eval(), case).items():
        np.testing.assert_array_equal(x, reference(model, case)[name], err_msg=name)
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)(real.TEXTS[0])["input_ids"]
    assert tokens == loaded.processor(real.TEXTS[:1])["text.ids"][0].tolist()


def test_efficientnet_lite0_on_pictures(tmp_path):
    folder = packages.efficientnet_lite0(tmp_path)
    loaded = pretrained.load(folder)
    batch = loaded.processor(real.pictures())
    model = real.efficientnet_lite0(folder / "pytorch_model.bin")
    ours, theirs = answer(loaded, batch), real.maps(model, batch["image"])
    assert len(theirs) == 11
    for name, x in theirs.items():
        gap, size = np.abs(ours[name] - x).max(), np.abs(x).max()
        assert gap <= 2e-5 * max(1, size), name
    pretrained.save(tmp_path / "again", loaded.kind, loaded.module, loaded.variables, loaded.processor)
    again = pretrained.load(tmp_path / "again")
    assert again.module == loaded.module and equal(again.variables, loaded.variables)
    rough = answer(pretrained.load(folder, dtype=jnp.bfloat16), batch)
    same = real.maps(model.bfloat16(), batch["image"])
    for name, x in theirs.items():  # its maps are sensitive: PyTorch's own bfloat16 loses up to 6 %
        assert 1e-3 < lost(rough[name], x) <= 1.1 * lost(same[name], x), name


def test_resemblyzer_on_speech(tmp_path):
    loaded = pretrained.load(packages.resemblyzer(tmp_path))
    ours, theirs = voices.both(loaded, real.recordings())
    rough, _ = voices.both(pretrained.load(tmp_path, dtype=jnp.bfloat16), real.recordings())
    assert all(1e-3 < lost(rough[name], x) < 0.02 for name, x in theirs.items())  # over 160 steps of three layers
    assert len(theirs) == 5 and len(theirs["windows.audio"]) == 2 * len(theirs["features.audio"]) == 12
    for name, x in theirs.items():
        gap, size = np.abs(ours[name] - x).max(), np.abs(x).max()
        assert gap <= 2e-5 * max(1, size), name
    pretrained.save(tmp_path / "again", loaded.kind, loaded.module, loaded.variables, loaded.processor)
    again = pretrained.load(tmp_path / "again")
    assert again.module == loaded.module and equal(again.variables, loaded.variables)
    assert again.processor == loaded.processor
