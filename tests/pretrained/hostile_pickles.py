"""Pickles, opcode by opcode, that PyTorch does not write; and the layouts that contain them."""

import pickle
import struct
import zipfile

import numpy as np

from mmkd_jax.pretrained import pickled


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
        for name, content in {"data.pkl": data, "version": b"3\n", **members}.items():
            archive.writestr(f"archive/{name}", content)


FOUR = np.arange(4, dtype="<f4").tobytes()


def legacy(path, data, keys=("0",), count=4, content=FOUR):
    header = b"".join(pickle.dumps(x, 2) for x in (pickled.MAGIC, pickled.PROTOCOL, {"little_endian": True}))
    if text("storage") not in data:
        keys, content = (), b""
    sizes = struct.pack("<q", count) if keys else b""
    path.write_bytes(header + data + pickle.dumps(list(keys), 2) + sizes + content)


def laughs(kind: bytes = b"\x86", depth: int = 200) -> bytes:
    """t1 = (t0, t0), t2 = (t1, t1), …."""
    return b"()q\x00" + (b"h\x00h\x00" + kind + b"q\x00") * depth + b"t"


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
    "many containers": (tree(b"(" + b"}" * 2_100_000 + b"t"), "more than 1,500,000 containers"),
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
