"""Weight files and configurations that no tool writes: each case spoils a good folder and reads it.

Run as a program, it reads every case and prints one JSON object: the answers, the time of each, the growth of memory.
"""

import contextlib
import json
import os
import pathlib
import pickle
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
from mmkd_jax.pretrained import pickled

SMALL = Encoders({"text": Bert(9, TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=12), length=7)})
WORDS = "[PAD] [UNK] [CLS] [SEP] a film good bad !"


def good(folder: pathlib.Path) -> None:
    """A folder as somebody published it."""
    pretrained.save(folder, "bert", SMALL, pretrained.initial(SMALL, jax.random.key(3)))
    (folder / "vocab.txt").write_text(WORDS.replace(" ", "\n"))


def text(x: str) -> bytes:
    return b"X" + struct.pack("<I", len(x.encode())) + x.encode()


def whole(x: int) -> bytes:
    return b"\x8a\x10" + x.to_bytes(16, "little", signed=True)


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(count: bytes = whole(4), kind: str = "FloatStorage", key: str = "0") -> bytes:
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + count + b"tQ"


ZERO, ONE, TWO = whole(0), whole(1), whole(2)


def tensor(offset=ZERO, size=(TWO, TWO), stride=(TWO, ONE), **of) -> bytes:
    sizes = b"(" + b"".join(size) + b"t" + b"(" + b"".join(stride) + b"t"
    hooks = b"\x89" + named("collections", "OrderedDict") + b")R"
    return named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage(**of) + offset + sizes + hooks + b"tR"


def tree(value: bytes) -> bytes:
    """A state dict of one entry."""
    return b"\x80\x02}" + text("w") + value + b"s."


def zipped(path, data, members=None, compress=zipfile.ZIP_STORED):
    members = {"data/0": np.arange(4, dtype="<f4").tobytes()} if members is None else members
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in {"data.pkl": data, **members}.items():
            archive.writestr(f"archive/{name}", content)


FOUR = np.arange(4, dtype="<f4").tobytes()


def legacy(path, data, keys=("0",), count=4, content=FOUR):
    header = b"".join(pickle.dumps(x, 2) for x in (pickled.MAGIC, pickled.PROTOCOL, {"little_endian": True}))
    sizes = struct.pack("<q", count) if keys else b""
    path.write_bytes(header + data + pickle.dumps(list(keys), 2) + sizes + content)


def laughs(kind: bytes = b"\x86", depth: int = 200) -> bytes:
    """t1 = (t0, t0), t2 = (t1, t1), …."""
    return b")q\x00" + (b"h\x00h\x00" + kind + b"q\x00") * depth


DEEP = 100_000
PICKLES = {
    "plain tensor": (tree(tensor()), "result"),
    "attributes of OrderedDict": (tree(named("collections", "OrderedDict") + b")R}" + text("a") + b"Nsb"), "more"),
    "eval": (tree(named("builtins", "eval") + b"(" + text("1") + b"tR"), "requests builtins.eval"),
    "name with a line": (tree(text("a\nb") + text("c") + b"\x93"), r"requests 'a\\nb.c'"),
    "BUILD on a class": (tree(named("torch", "Size") + b"}" + text("a") + b"Nsb"), "sets attributes of a Global"),
    "BUILD on a tensor": (tree(tensor() + b"}b"), "sets attributes of a ndarray"),
    "BUILD on a dict": (tree(b"}}b"), "sets attributes of a dict"),
    "INST": (tree(b"(iposix\nsystem\n"), "opcode INST"),
    "OBJ": (tree(b"(" + named("torch", "Size") + b"o"), "opcode OBJ"),
    "NEWOBJ": (tree(named("torch", "Size") + b")\x81"), "opcode NEWOBJ"),
    "EXT1": (tree(b"\x82\x01"), "opcode EXT1"),
    "set": (tree(b"\x8f"), "opcode EMPTY_SET"),
    "unknown opcode": (tree(b"\xff"), "damaged"),
    "a call of a dtype": (tree(named("torch", "FloatStorage") + b")R"), "damaged"),
    "a call of a string": (tree(text("f") + b")R"), "damaged"),
    "a name outside of a call": (tree(named("torch", "Size")), "contains a Size outside of a tensor"),
    "a storage outside of a tensor": (tree(storage()), "contains a storage outside of a tensor"),
    "no stack": (b"\x80\x02R.", "damaged"),
    "no mark": (b"\x80\x02t.", "damaged"),
    "below the mark": (tree(b"N(\x85"), "damaged"),
    "no memo entry": (tree(b"h\x09"), "damaged"),
    "a dict in a number": (tree(b"K\x01" + text("a") + b"Ns"), "damaged"),
    "half a pair": (b"\x80\x02}(N" + b"u.", "damaged"),
    "a key that is a tuple": (b"\x80\x02})Ns.", "damaged"),
    "a string beyond the end": (tree(b"\x8d" + b"\xff" * 7 + b"\x7f"), "damaged"),
    "no UTF-8": (tree(b"X\x01\x00\x00\x00\xff"), "damaged"),
    "too many digits": (tree(b"I" + b"9" * 5000 + b"\n"), "damaged"),
    "no end": (b"\x80\x02}", "damaged"),
    "a reference to a list": (tree(b"]Q"), "not a storage"),
    "a reference to a module": (tree(b"(" + text("module") + b"NNNNtQ"), "not a storage"),
    "a view of a storage": (tree(b"(" + text("storage") + b"NNNNK\x01tQ"), "not a storage"),
    "a storage without a dtype": (tree(b"(" + text("storage") + text("f") + text("0") + b"NK\x04tQ"), "damaged"),
    "a storage of OrderedDict": (tree(tensor(kind="Size")), "damaged"),
    "billion laughs": (tree(laughs()), "more than named tensors"),
    "a list in itself": (tree(b"]q\x00h\x00a"), "contains itself"),
    "a list in a tuple in itself": (tree(b"]q\x00h\x00\x85a"), "contains itself"),
    "deep tuples": (tree(b")" + b"\x85" * DEEP), "more than named tensors"),
    "deep lists": (tree(b"]" * DEEP + b"a" * (DEEP - 1)), "more than named tensors"),
    "a deep reference": (tree(b")" + b"\x85" * DEEP + b"Q"), "not a storage"),
    "many containers": (tree(b"(" + b"}" * 2_100_000 + b"t"), "more than 2,000,000 containers"),
    "stride 0": (tree(tensor(size=(whole(10**6),) * 2, stride=(whole(0),) * 2)), "more elements than its storage"),
    "a negative stride": (tree(tensor(offset=whole(3), stride=(whole(-2), whole(-1)))), "whole numbers"),
    "a negative size": (tree(tensor(size=(whole(-1), whole(2)))), "whole numbers"),
    "a negative offset": (tree(tensor(offset=whole(-1))), "whole numbers"),
    "a size that is true": (tree(tensor(size=(b"\x88", whole(2)))), "whole numbers"),
    "a size that is a float": (tree(tensor(size=(b"G" + struct.pack(">d", 2), whole(2)))), "whole numbers"),
    "a size beyond 64 bits": (tree(tensor(size=(whole(2**100), whole(2)))), "whole numbers"),
    "no stride": (tree(tensor(stride=())), "damaged"),
    "65 axes": (tree(tensor(size=(whole(1),) * 65, stride=(whole(1),) * 65)), "damaged"),
    "a reach beyond the end": (tree(tensor(offset=whole(1))), "outside its storage"),
    "no elements of a huge size": (tree(tensor(size=(whole(0), whole(2**62)), stride=(whole(1),) * 2)), "damaged"),
    "a storage of 4 TB": (tree(tensor(count=whole(10**12))), "damaged"),
    "a storage with a negative size": (tree(tensor(count=whole(-4))), "damaged"),
    "a storage with a true size": (tree(tensor(count=b"\x88")), "damaged"),
}  # fmt: skip


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
FAMILIES = {
    "vit": ("patch_size image_size num_channels qkv_bias pooler_act", (0, 10**9, "16", [16, "16"], None)),
    "dinov2": ("mlp_ratio use_swiglu_ffn", (1e300, float("nan"), "4", [], -1)),
    "clip": ("text_config vision_config projection_dim", ([], 5, 10**12, {"hidden_size": 10**12}, True)),
    "siglip": ("vision_config", ({"image_size": 10**9}, {"patch_size": 0}, {"patch_size": 10**9})),
    "resnet": ("depths hidden_sizes embedding_size layer_type", ([10**9] * 4, [], ["1"], 10**9, {})),
    "convnext": ("depths hidden_sizes patch_size layer_scale_init_value", ([1] * 10**5, [10**9], 10**9, "x", None)),
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
    held = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        key = next(k for k in held if name in k)
        held[key] = change(held[key])
    (folder / "model.safetensors").write_bytes(save(held))


def valued(value, at=0):
    def change(x):
        x = x.copy()
        x.flat[at] = value
        return x

    return change


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
    "safetensors of no bytes": (safe(b""), "is damaged"),
    "a name of two lines": (safe(raw("F32", [1], b"\0" * 4, "a\nb")), r"'a\\nb'|missing"),
    "FIFO safetensors": (fifo("model.safetensors"), "not a regular file"),
    "FIFO .bin": (lambda f: (bare(f), fifo("pytorch_model.bin")(f)), "not a regular file"),
    "FIFO config": (fifo("config.json"), "not a regular file"),
    "device": (linked("config.json", os.devnull), "not a regular file"),
    "endless device": (linked("config.json", "/dev/zero"), "not a regular file"),
    "folder .bin": (lambda f: bare(f).mkdir(), "not a regular file"),
    "config of 300 MB": (lambda f: os.truncate(f / "config.json", 300 * 2**20), "expected 268,435,456 or fewer"),
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
        start = time.perf_counter()
        answers[name] = answer(read, folder)
        times[name] = time.perf_counter() - start
        shutil.rmtree(folder)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    shutil.rmtree(parent)
    json.dump({"answers": answers, "times": times, "growth": growth}, sys.stdout)


if __name__ == "__main__":
    main()
