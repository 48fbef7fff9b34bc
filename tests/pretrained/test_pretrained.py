"""Pretrained encoders without PyTorch: what is saved is loaded, and what is wrong is named."""

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

from mmkd_jax import pretrained
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.data.images import Pictures
from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, ConvNext, Encoders, Multimodal, Timesformer, TransformerConfig, Vit
from mmkd_jax.pretrained.attributes import replaced
from tests.small import applied, equal

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "good", "bad", "##ly", "!"]
CONFIG = TransformerConfig(embed_dim=8, num_layers=2, num_heads=2, mlp_dim=12)
BERT = Bert(len(WORDS), CONFIG, length=7, pooler=True)
SMALL = Encoders({"text": BERT})


@pytest.fixture
def folder(tmp_path):
    """As somebody published it: weights, configuration, WordPiece vocabulary."""
    pretrained.save(tmp_path, "bert", SMALL, pretrained.initial(SMALL, jax.random.key(3)))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    return tmp_path


def changed(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))


def with_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.full
def test_what_is_saved_is_loaded(folder, tmp_path):
    loaded = pretrained.load(folder)
    assert equal(loaded.variables, pretrained.initial(SMALL, jax.random.key(3)))
    assert loaded.module.encoders["text"] == BERT
    pretrained.save(tmp_path / "again", loaded.kind, loaded.module, loaded.variables, loaded.processor)
    again = pretrained.load(tmp_path / "again")
    assert equal(again.variables, loaded.variables)
    assert again.processor(["good film"])["text.ids"].tolist() == [[2, 6, 5, 3]]


def test_the_variables_fit_a_multimodal_model(folder):
    loaded = pretrained.load(folder)
    model = linen(Multimodal(loaded.module.encoders, classes=3))
    batch = loaded.processor(["a film", "bad"]) | {"example_id": np.arange(2, dtype=np.int32)}
    fresh = jax.jit(model.init)(jax.random.key(0), batch)
    given = {"params": {**fresh["params"], **loaded.variables["params"]}}
    assert jax.tree.structure(given) == jax.tree.structure(fresh)
    ctx = StepContext(0, jax.random.key(0), train=False)
    features = applied(model, given, batch, ctx)[0]["features.text"]
    alone = applied(linen(loaded.module), loaded.variables, batch, ctx)[0]["features.text"]
    np.testing.assert_array_equal(features, alone)


@pytest.mark.slow
def test_dropout_belongs_to_the_example_in_every_form(folder):
    def run(rows, **switches):
        loaded = pretrained.load(folder, dropout=0.3, attention_dropout=0.2, **switches)
        batch = loaded.processor(["a good film", "bad !"], length=6, pad=True)
        batch = {k: x[rows] for k, x in batch.items()} | {"example_id": np.array([7, 9], np.int32)[rows]}
        model = linen(loaded.module)
        return jax.jit(lambda v: model.apply(v, batch, StepContext(0, jax.random.key(1)), {})[0])(loaded.variables)

    both, turned, scanned = run([0, 1]), run([1, 0]), run([0, 1], scan=True, remat=True)
    for name, x in both.items():
        np.testing.assert_allclose(turned[name][::-1], x, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(scanned[name], x, atol=1e-6, err_msg=name)
    still = run([0, 1], scan=True)["hidden.text.2"]
    loaded = pretrained.load(folder)
    batch = loaded.processor(["a good film", "bad !"], length=6, pad=True) | {"example_id": np.array([7, 9], np.int32)}
    plain = applied(linen(loaded.module), loaded.variables, batch, StepContext(0, jax.random.key(1), train=False))[0]
    assert np.abs(still - plain["hidden.text.2"]).max() > 0.1


def test_a_patched_intermediate_reaches_the_layers_above_under_scan(folder):
    loaded = pretrained.load(folder, scan=True)
    batch = loaded.processor(["a good film"]) | {"example_id": np.zeros(1, np.int32)}
    model, ctx = linen(loaded.module), StepContext(0, jax.random.key(0), train=False)
    plain = applied(model, loaded.variables, batch, ctx)[0]
    patch = {"hidden.text.1": plain["hidden.text.1"] + jnp.arange(8.0)}
    patched = applied(model, loaded.variables, batch, ctx, patch)[0]
    np.testing.assert_array_equal(patched["hidden.text.0"], plain["hidden.text.0"])
    assert np.abs(patched["hidden.text.2"] - plain["hidden.text.2"]).max() > 0.01


def test_compute_in_bfloat16_keeps_parameters_in_float32(folder):
    loaded = pretrained.load(folder, dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(loaded.variables)} == {np.dtype("float32")}
    batch = loaded.processor(["a good film"]) | {"example_id": np.zeros(1, np.int32)}
    out = applied(linen(loaded.module), loaded.variables, batch, StepContext(0, jax.random.key(0), train=False))[0]
    assert {np.dtype(x.dtype) for n, x in out.items() if n != "tokens_mask.text"} == {np.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "is not valid JSON"),
        (lambda f: changed(f, model_type="gpt2"), "model_type 'gpt2'; expected one of: .*bert, .*roberta"),
        (lambda f: changed(f, position_embedding_type="relative_key"), "position_embedding_type='relative_key'"),
        (lambda f: changed(f, hidden_act="mish"), "unknown activation 'mish'"),
        (lambda f: changed(f, num_attention_heads=3), "num_heads is 3; expected a divisor of embed_dim, 8"),
        (lambda f: changed(f, intermediate_size=16), r"dense.weight has shape \[12, 8\], expected \[16, 8\]"),
        (lambda f: changed(f, num_hidden_layers=3), "missing: encoder.layer.2.attention.output.LayerNorm.bias"),
        (lambda f: changed(f, num_hidden_layers=1), "unexpected: encoder.layer.1.attention.output.LayerNorm.bias"),
        (lambda f: with_tensors(f, lambda t: t.pop("embeddings.LayerNorm.weight")), "missing: embeddings.LayerNorm.w"),
        (lambda f: with_tensors(f, lambda t: t.update(extra=np.zeros(2))), "unexpected: extra"),
        (lambda f: os.truncate(f / "model.safetensors", 300), "model.safetensors is damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "neither model.safetensors nor pytorch_model.bin"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(folder, spoil, said):
    spoil(folder)
    with pytest.raises(UserError, match=said):
        pretrained.load(folder)


def test_the_first_names_of_a_layer_norm_are_known(folder):
    before = pretrained.load(folder).variables
    named = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}

    def rename(tensors):
        for name in list(tensors):
            for now, old in named.items():
                if name.endswith(now):
                    tensors["bert." + name.removesuffix(now) + old] = tensors.pop(name)
                    break
            else:
                tensors["bert." + name] = tensors.pop(name)
        tensors["cls.predictions.bias"] = np.zeros(3, np.float32)

    with_tensors(folder, rename)
    assert equal(pretrained.load(folder).variables, before)


def test_one_text_or_picture_in_the_place_of_several_is_refused(folder):
    read = pretrained.load(folder).processor
    with pytest.raises(UserError, match="text: expected a sequence of texts, got 'a film'"):
        read("a film")
    np.testing.assert_array_equal(read([b"a film"])["text.ids"], read(["a film"])["text.ids"])
    with pytest.raises(UserError, match="image: expected a sequence of images"):
        Pictures()(np.zeros((8, 8, 3), np.uint8))


def test_a_shard_that_is_missing_is_named(folder):
    os.rename(folder / "model.safetensors", folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names model-2.safetensors, which is missing"):
        pretrained.load(folder)


class Runs:
    def __reduce__(self):
        return os.system, ("echo run",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_anything_but_tensors_is_refused_and_not_run(folder, zipped):
    (folder / "model.safetensors").unlink()
    made = io.BytesIO()
    if zipped:
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"w": Runs()}))
    else:
        from mmkd_jax.pretrained.pickled import MAGIC, PROTOCOL

        for part in (MAGIC, PROTOCOL, {"little_endian": True}, {"w": Runs()}, []):
            pickle.dump(part, made, 2)
    (folder / "pytorch_model.bin").write_bytes(made.getvalue())
    with pytest.raises(UserError, match=r"requests (posix|nt)\.system: a weights file may contain tensors"):
        pretrained.load(folder)


@pytest.mark.parametrize("content", [b"no pickle", pickle.dumps(3)])
def test_a_file_that_is_no_weights_file_is_refused(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match="is damaged or not a PyTorch weights file"):
        pretrained.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["roberta", "distilbert", "electra", "mpnet", "wavlm", "vit", "resnet", "clip", "vivit", "gpt2"]
)
def test_a_kind_that_does_not_describe_the_module_is_refused_and_nothing_written(kind, tmp_path):
    with pytest.raises(UserError, match=f"kind (is '{kind}'; expected one of|'{kind}' does not describe)"):
        pretrained.save(tmp_path, kind, SMALL, pretrained.initial(SMALL))
    with pytest.raises(UserError, match="kind 'deit' does not describe an encoder with num_prefix_tokens=1"):
        small = Encoders({"image": Vit((4, 4), (2, 2), config=CONFIG)})
        pretrained.save(tmp_path, "deit", small, pretrained.initial(small))
    with pytest.raises(
        UserError, match=r"kind 'timesformer' does not describe frames of \(4, 8\) in patches of \(4, 4\)"
    ):
        small = Encoders({"video": Timesformer((4, 8), (4, 4), 2, config=CONFIG)})
        pretrained.save(tmp_path, "timesformer", small, pretrained.initial(small))
    with pytest.raises(UserError, match="kind 'vivit' does not describe"):
        pretrained.save(tmp_path, "vivit", small, pretrained.initial(small))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("vit", {"gated_mlp": True, "bias": False}, "gated_mlp=True"),
        ("deit", {"num_prefix_tokens": 2, "layer_scale": True}, "layer_scale=True"),
        ("dinov2", {"layer_scale": True, "mlp_dim": 12}, "mlp_dim=12"),
        ("dinov2", {"layer_scale": True, "gated_mlp": True, "mlp_dim": 24}, "activation='gelu'"),
        ("dinov2_with_registers", {"layer_scale": True}, "registers=0"),
        ("vivit", {"layer_scale": True}, "layer_scale=True"),
    ],
)
def test_what_a_kind_cannot_describe_is_named_and_nothing_written(kind, changed, message, tmp_path):
    encoder = replaced(Vit((4, 4), (2, 2), config=CONFIG), **changed)
    small = Encoders({"video" if kind == "vivit" else "image": encoder})
    with pytest.raises(UserError, match=f"kind '{kind}' does not describe an encoder with {message}$"):
        pretrained.save(tmp_path, kind, small, pretrained.initial(small))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "encoder", "message"),
    [
        ("vit", Vit((4, 4), (2, 2), config=CONFIG, registers=1), "Vit: pass the kind that load returned"),
        ("convnext", ConvNext(3, 2, (4,), (1,), response_norm=True), "ConvNext: pass the kind that load returned"),
        ("convnextv2", ConvNext(3, 2, (4,), (1,)), "an encoder with layer_scale=True and response_norm=False"),
        ("swin", ConvNext(3, 2, (4,), (1,)), "ConvNext: pass the kind that load returned"),
        ("mobilenet_v2", ConvNext(3, 2, (4,), (1,)), "ConvNext: pass the kind that load returned"),
    ],
)
def test_a_relative_of_the_kind_is_refused_and_nothing_written(kind, encoder, message, tmp_path):
    small = Encoders({"image": encoder})
    with pytest.raises(UserError, match=f"kind '{kind}' does not describe {message}"):
        pretrained.save(tmp_path, kind, small, pretrained.initial(small))
    assert not list(tmp_path.iterdir())


def test_switches_that_do_not_exist_are_named(folder):
    with pytest.raises(UserError, match="Bert has no such attribute"):
        pretrained.load(folder, remot=True)
    with pytest.raises(UserError, match="pool is 'last'"):
        pretrained.load(folder, pool="last")


def test_without_a_tokenizer_the_weights_load_and_the_processor_says_what_is_missing(folder):
    (folder / "vocab.txt").unlink()
    loaded = pretrained.load(folder)
    with pytest.raises(UserError, match="has no tokenizer.json"):
        loaded.processor(["a"])


def test_longer_texts_are_cut_with_a_warning_or_refused(folder):
    read = pretrained.load(folder).processor
    long = ["a film", "good good good good good good good"]
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 7 tokens, first in row 1: they are truncated"):
        found = read(long)
    assert found["text.ids"].tolist() == [[2, 4, 5, 3, 0, 0, 0], [2, 6, 6, 6, 6, 6, 3]]
    assert found["text.mask"].sum(1).tolist() == [4, 7]
    with pytest.raises(UserError, match="1 of 2 texts have more than 7 tokens"):
        read(long, cut=False)
    with pytest.raises(UserError, match="length=8: this model supports at most 7 tokens"):
        read(long, length=8)
    model = pretrained.load(folder)
    with pytest.raises(UserError, match="texts have 8 tokens, but this model has 7 position embeddings"):
        batch = {"text.ids": np.ones((1, 8), np.int32), "text.mask": np.ones((1, 8), bool)}
        linen(model.module).init(jax.random.key(0), batch | {"example_id": np.zeros(1, np.int32)})


def test_a_file_with_padding_and_truncation_built_in_pads_to_the_longest_all_the_same(folder):
    made = tokenizers.BertWordPieceTokenizer({w: i for i, w in enumerate(WORDS)})
    made.enable_padding(length=6)
    made.enable_truncation(3)
    made.save(str(folder / "tokenizer.json"))
    found = pretrained.load(folder).processor(["a", "badly"], pairs=["film", "good !"])
    assert found["text.ids"].tolist() == [[2, 4, 3, 5, 3, 0, 0], [2, 7, 8, 3, 6, 9, 3]]
    assert found["text.types"][0].tolist() == [0, 0, 0, 1, 1, 0, 0]


def test_a_hub_id_is_read_from_the_cache_and_an_unknown_one_refused(folder, tmp_path):
    held = tmp_path / "hub" / "models--owner--name"
    (held / "refs").mkdir(parents=True)
    (held / "refs" / "main").write_text("abc")
    (held / "snapshots" / "abc").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        os.rename(folder / name, held / "snapshots" / "abc" / name)
    code = (
        "from mmkd_jax.pretrained.folder import find\n"
        "print(find('owner/name').name)\n"
        "for other in ('owner/other', 'a/b/c', '/nowhere', 'hub/mistyped'):\n"
        "    try: find(other)\n"
        "    except ValueError as e: print(e)"
    )
    env = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, other, *rest = done.stdout.splitlines()
    assert first == "abc"
    assert other.startswith("'owner/other' is not a folder, is not in the hub's cache, and cannot be downloaded (")
    assert [line.partition(" is not a folder: ")[0] for line in rest] == ["'a/b/c'", "'/nowhere'", "'hub/mistyped'"]


def test_every_family_has_what_loading_and_saving_call():
    for kind, family in pretrained.loading.FAMILIES.items():
        assert isinstance(family, pretrained.loading.Family), kind


def test_a_processor_that_is_missing_is_said(tmp_path):
    module = Encoders({"image": Vit((8, 8), (4, 4), config=CONFIG)})
    pretrained.save(tmp_path, "vit", module, pretrained.initial(module))
    with pytest.warns(
        UserWarning, match=r"has no preprocessor_config.json: its processor is the default .* 'vit', Pict"
    ):
        pretrained.load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 8, "width": 8}}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pretrained.load(tmp_path).processor.size == (8, 8)
