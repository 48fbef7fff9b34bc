"""Weight files and configurations that no tool writes: each case spoils a good folder and reads it.

Run as a program, it reads every case and prints one JSON object: the answers, the time of each, the growth of memory.
"""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zipfile

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save

from mmkd_jax import pretrained
from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, Encoders, TransformerConfig
from mmkd_jax.pretrained import folder as folders
from tests.pretrained import hostile_modules
from tests.pretrained.hostile_pickles import PICKLES, legacy, tensor, tree, whole, zipped

SMALL = Encoders({"text": Bert(9, TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12), length=7)})
WORDS = "[PAD] [UNK] [CLS] [SEP] a film good bad !"


def good(folder: pathlib.Path) -> None:
    """A folder as somebody published it."""
    pretrained.save(folder, "bert", SMALL, pretrained.initial(SMALL, jax.random.key(3)))
    (folder / "vocab.txt").write_text(WORDS.replace(" ", "\n"))


def nested(depth: int) -> str:
    return '{"a":' + "[" * depth + "]" * depth + "}"


CONFIGS = {
    "no object": "[]",
    "deep": nested(100_000),
    "deep type": '{"model_type": ' + "[" * 900 + "]" * 900 + "}",
    "many digits": '{"hidden_size": ' + "9" * 5000 + "}",
    "no UTF-8": b"\xff\xfe{}",
    "type is a list": {"model_type": ["bert"]},
    "type is null": {"model_type": None},
    **{f"hidden_size={x!r:.20}": {"hidden_size": x} for x in (True, 8.0, "8", [8], None, 0, -8, 10**12, 2**31, {})},
    **{f"num_attention_heads={x!r}": {"num_attention_heads": x} for x in (0, -2, True, 2.0, None)},
    **{f"num_hidden_layers={x!r}": {"num_hidden_layers": x} for x in (10**9, 10**5, 0, -1, "1", 1.0)},
    **{f"vocab_size={x!r}": {"vocab_size": x} for x in (10**12, 10**9, "9")},
    **{f"intermediate_size={x!r}": {"intermediate_size": x} for x in (10**12, 10**9)},
    **{f"max_position_embeddings={x!r}": {"max_position_embeddings": x} for x in (10**9, "7", None)},
    **{f"type_vocab_size={x!r}": {"type_vocab_size": x} for x in (-1, 10**9, "2")},
    **{f"layer_norm_eps={x!r}": {"layer_norm_eps": x} for x in (float("nan"), float("inf"), -1.0, 0, "1", True, None)},
    **{f"hidden_dropout_prob={x!r}": {"hidden_dropout_prob": x} for x in (-0.1, 1, 2, float("nan"), "0", None)},
    **{f"hidden_act={x!r}": {"hidden_act": x} for x in ("mish", 3, None, ["gelu"], {}, "x" * 10**5)},
    **{f"pad_token_id={x!r}": {"pad_token_id": x} for x in ("0", 0.5, [0])},
    "relative positions, deep": '{"model_type": "bert", "position_embedding_type": ' + "[" * 900 + "]" * 900 + "}",
}
BERT = tuple(CONFIGS)
FAMILIES = {
    "vit": ("patch_size image_size num_channels qkv_bias pooler_act", (0, 10**9, "16", [16, "16"], None)),
    "dinov2": ("mlp_ratio use_swiglu_ffn", (1e300, float("nan"), "4", [], -1)),
    "dinov2_with_registers": ("num_register_tokens", (0, -1, 10**9, "4", None)),
    "clip": ("text_config vision_config projection_dim", ([], 5, 10**12, {"hidden_size": 10**12}, True)),
    "siglip": ("vision_config", ({"image_size": 10**9}, {"patch_size": 0}, {"patch_size": 10**9})),
    "resnet": ("depths hidden_sizes embedding_size layer_type", ([10**9] * 4, [], ["1"], 10**9, {})),
    "convnext": ("depths hidden_sizes patch_size layer_scale_init_value", ([1] * 10**5, [10**9], 10**9, "x", None)),
    "convnextv2": ("depths num_channels", ([1] * 10**5, [10**9], 10**9, "x", None)),
    "swin": (
        "depths num_heads window_size embed_dim image_size mlp_ratio",
        ([1] * 10**5, [2**31], 10**9, 2**31, "x", None, [], 0, 1e30),
    ),
    "mobilenet_v2": (
        "depth_multiplier depth_divisible_by min_depth expand_ratio output_stride num_channels",
        (1e30, float("inf"), 10**9, 0, -1, "1", True, None),
    ),
    "efficientnet-lite": ("depth_coefficient width_coefficient", (1e30, float("inf"), "1", -1, True)),
    "wav2vec2": ("conv_dim conv_kernel conv_stride num_conv_pos_embedding_groups", ([2] * 10**5, 10**9, [], None)),
    "whisper": ("max_source_positions d_model num_mel_bins encoder_layers", (10**9, 10**6, "x", None, 0)),
    "audio-spectrogram-transformer": ("num_mel_bins max_length time_stride patch_size", (10**9, 0, "x", None)),
    "voice-encoder": ("model_hidden_size model_num_layers mel_n_channels", (10**9, 0, "3", None)),
    "vivit": ("num_frames tubelet_size image_size", (10**9, [], [0, 1, 1], "x", None)),
    "timesformer": ("num_frames attention_type patch_size", (10**9, 0, {}, None)),
}
CONFIGS |= {
    f"{kind} {key}={value!r:.20}": {"model_type": kind, key: value}
    for kind, (keys, values) in FAMILIES.items()
    for key in keys.split()
    for value in values
}


def raw(dtype: str, shape, data: bytes, name: str = "w") -> bytes:
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensors(folder, **changes):
    published = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        key = next(k for k in published if name in k)
        published[key] = change(published[key])
    (folder / "model.safetensors").write_bytes(save(published))


def valued(value, at=0):
    def change(x):
        x = x.copy()
        x.flat[at] = value
        return x

    return change


def doubled(folder):
    published = load_file(folder / "model.safetensors")
    key = next(iter(published))
    (folder / "model.safetensors").write_bytes(save(published | {f"bert.{key}": published[key]}))


VALUES = {
    "int8": (lambda x: x.astype(np.int8), "has dtype int8: quantized weights are not supported"),
    "bool": (lambda x: x > 0, "has dtype bool"),
    "complex": (lambda x: x.astype(np.complex64), "has dtype complex64"),
    "NaN": (lambda x: x * np.nan, "72 of 72 values that are not finite"),
    "infinity": (valued(np.inf), "1 of 72 values that are not finite"),
    "float64 beyond float32": (lambda x: valued(1e300)(x.astype(np.float64)), "1 of 72 values"),
    "bfloat16": (lambda x: x.astype(ml_dtypes.bfloat16), "result"),
}
SHARDS = {
    "a path": ({"weight_map": {"w": "../model.safetensors"}}, "names '../model.safetensors'"),
    "an absolute path": ({"weight_map": {"w": "/etc/hostname"}}, "names '/etc/hostname'"),
    "a backslash": ({"weight_map": {"w": "a\\b"}}, "names"),
    "NUL": ({"weight_map": {"w": "a\0b"}}, "names"),
    "dots": ({"weight_map": {"w": ".."}}, "names"),
    "a number": ({"weight_map": {"w": 3}}, "names 3"),
    "a surrogate": ({"weight_map": {"w": "\ud800"}}, "names"),
    "a long name": ({"weight_map": {"w": "a" * 1000}}, "names"),
    "no map": ({}, "has no object weight_map"),
    "a list": ({"weight_map": ["one.safetensors"]}, "has no object weight_map"),
    "a folder": ({"weight_map": {"w": "sub"}}, "missing"),
    "another tensor": ({"weight_map": {"v": "one.safetensors"}}, "lacks v"),
    "twice": ({"weight_map": {"w": "one.safetensors", "x": "two.safetensors"}}, "w is in two.safetensors and"),
    "deep": (nested(100_000), "not valid JSON"),
}  # fmt: skip


def bare(folder):
    os.unlink(folder / "model.safetensors")
    return folder / "pytorch_model.bin"


def pickle_case(data, layout):
    def case(folder):
        layout(bare(folder), data)
        return folders.read_tensors(folder)

    return case


def config_case(content):
    def case(folder):
        if isinstance(content, dict):
            old = json.loads((folder / "config.json").read_text())
            changed = json.dumps((old if "model_type" not in content else {}) | content)
        else:
            changed = content
        (folder / "config.json").write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        return pretrained.load(folder)

    return case


def value_case(change):
    def case(folder):
        tensors(folder, word_embeddings=change)
        return pretrained.load(folder)

    return case


def shard_case(index):
    def case(folder):
        bare(folder)
        (folder / "one.safetensors").write_bytes(save({"w": np.zeros(2)}))
        (folder / "two.safetensors").write_bytes(save({"w": np.zeros(2), "x": np.ones(1)}))
        content = index if isinstance(index, str) else json.dumps(index)
        (folder / "model.safetensors.index.json").write_text(content)
        (folder / "sub").mkdir()
        return folders.read_tensors(folder)

    return case


def file_case(make):
    def case(folder):
        make(folder)
        return pretrained.load(folder)

    return case


def modules_case(content):
    return file_case(lambda folder: hostile_modules.write(folder, content))


def safe(data):
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


def fifo(name):
    def make(folder):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)
        os.mkfifo(folder / name)

    return make


def linked(name, to):
    def make(folder):
        os.unlink(folder / name)
        os.symlink(to, folder / name)

    return make


def compressed(folder):
    zipped(bare(folder), tree(tensor()), {"data/0": bytes(2**28)}, zipfile.ZIP_DEFLATED)


def quantization(folder):
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "fp8"}}
    (folder / "config.json").write_text(json.dumps(config))


def half(folder):
    zipped(bare(folder), tree(tensor()), {"data/0": bytes(16)})
    os.truncate(folder / "pytorch_model.bin", 200)


def shorter(folder):
    zipped(bare(folder), tree(tensor()), {"data/0": bytes(15)})


def big_endian(folder):
    zipped(bare(folder), tree(tensor()), {"byteorder": b"big", "data/0": bytes(16)})


def legacy_count(folder):
    legacy(bare(folder), tree(tensor(count=whole(2**40))), count=2**40)


def legacy_other_keys(folder):
    legacy(bare(folder), tree(tensor()), keys=("0", "0"))


FILES = {
    "safetensors F4": (safe(raw("F4", [2], b"\0")), "w has dtype F4, which is not supported"),
    "safetensors F8_E8M0": (safe(raw("F8_E8M0", [1], b"\0", "a\nb")), "has dtype F8_E8M0"),
    "safetensors of a huge shape": (safe(raw("F32", [2**62, 2**62], b"")), "is damaged"),
    "safetensors without data": (safe(raw("F32", [10**9], b"\0" * 4)), "is damaged"),
    "safetensors with a long header": (safe(struct.pack("<Q", 2**60) + b"{}"), "is damaged"),
    "empty safetensors": (safe(b""), "is empty"),
    "a name of two lines": (safe(raw("F32", [1], b"\0" * 4, "a\nb")), r"needs 8 tensors"),
    "one variable under two names": (doubled, "two tensors for one variable"),
    "quantization_config": (quantization, "has quantization_config: fetch the weights before quantization"),
    "empty .bin": (lambda f: bare(f).write_bytes(b""), "is empty: fetch it again"),
    "a Git LFS pointer": (safe(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer: run `git lfs"),
    "a web page as weights": (safe(b"<!DOCTYPE html><title>Login</title>"), "is a web page: fetch it again"),
    "half of a .bin": (half, "is damaged or not a PyTorch weights file .its end is missing.: fetch it again"),
    "FIFO safetensors": (fifo("model.safetensors"), "not a regular file"),
    "FIFO .bin": (lambda f: (bare(f), fifo("pytorch_model.bin")(f)), "not a regular file"),
    "FIFO modules": (fifo("modules.json"), "not a regular file"),
    "FIFO config": (fifo("config.json"), "not a regular file"),
    "device": (linked("config.json", os.devnull), "not a regular file"),
    "endless device": (linked("config.json", "/dev/zero"), "not a regular file"),
    "folder .bin": (lambda f: bare(f).mkdir(), "is a folder"),
    "config of 300 MB": (lambda f: os.truncate(f / "config.json", 300 * 2**20), "expected at most 16,777,216"),
    "compressed": (compressed, "is compressed"),
    "a shorter storage": (shorter, "has 15 bytes, expected 16"),
    "big-endian": (big_endian, "big-endian"),
    "legacy of 4 TB": (legacy_count, "storages are larger than the file"),
    "legacy with other keys": (legacy_other_keys, "lists other storages"),
}

CASES = {
    **{f"zip: {n}": (pickle_case(data, zipped), words) for n, (data, words) in PICKLES.items()},
    **{f"legacy: {n}": (pickle_case(data, legacy), words) for n, (data, words) in PICKLES.items()},
    **{f"config: {n}": (config_case(content), "") for n, content in CONFIGS.items()},
    **{f"values: {n}": (value_case(change), words) for n, (change, words) in VALUES.items()},
    **{f"index: {n}": (shard_case(index), words) for n, (index, words) in SHARDS.items()},
    **{f"modules: {n}": (modules_case(content), words) for n, (content, words) in hostile_modules.MODULES.items()},
    **{f"file: {n}": (file_case(make), words) for n, (make, words) in FILES.items()},
}


def answer(read, folder):
    """What reading says: the message of a UserError, "result", or the name of another error, which no case expects."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(folder)
        except UserError as error:
            return str(error).replace(str(folder), "FOLDER")
        except BaseException as error:
            return f"!{type(error).__name__}: {error}"
    return "result"


def main():
    parent = pathlib.Path(tempfile.mkdtemp())
    good(parent / "good")
    pretrained.load(parent / "good")
    before, answers, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {}, {}
    for i, (name, (read, _)) in enumerate(CASES.items()):
        folder = parent / str(i)
        shutil.copytree(parent / "good", folder)
        start = time.process_time()
        answers[name] = answer(read, folder)
        times[name] = time.process_time() - start
        shutil.rmtree(folder)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    shutil.rmtree(parent)
    json.dump({"answers": answers, "times": times, "growth": growth}, sys.stdout)


if __name__ == "__main__":
    main()
