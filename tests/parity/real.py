"""Real pretrained weights and inputs, and the PyTorch code that belongs to them."""

import functools
import pathlib
import sys
import tempfile

import matplotlib.cbook
import numpy as np
import torch
from PIL import Image

from mmkd_jax.data import sounds, sources, speech
from mmkd_jax.models.efficientnet import STAGES
from tests.parity.cases import Case, stack

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 60][:12] + [
    "No.",
    "naïve café, №5 — ok? 😀 x²",
    "Не верю! 這部電影很好看。",
    "",
]


def case(model, batch: dict[str, np.ndarray]) -> Case:
    """A text encoder on what its tokenizer gave."""
    inputs = {"input_ids": batch["text.ids"].astype(int), "attention_mask": batch["text.mask"].astype(int)}

    def outputs(out):
        return stack("text", out) | {"pooled.text": out.pooler_output}

    return Case("BERT", lambda: model, batch, inputs, outputs)


def pictures() -> list[Image.Image]:
    """A photograph, whole and in part, and a figure."""
    photo = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    return [photo, photo.crop((60, 20, 420, 300)), Image.open(ROOT / "docs" / "figures" / "augmentation-images.png")]


def efficientnet_lite0(weights: pathlib.Path) -> torch.nn.Module:
    """The published port to PyTorch with those weights."""
    sha256 = "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41"
    code = tempfile.mkdtemp()
    sources.wheel("efficientnet-lite-pytorch", "0.1.0", sha256).extractall(code)
    sys.path.insert(0, code)
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.remove(code)
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def maps(model: torch.nn.Module, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What it makes of uint8 pixels: the stem's map, that of each stage and of the head, their mean, logits."""
    ends = np.cumsum([depth for depth, *_ in STAGES]) - 1
    given = torch.as_tensor(((pixels.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2))
    given = given.to(next(model.parameters()).dtype)
    with torch.no_grad():
        x = model._swish(model._bn0(model._conv_stem(given)))
        found = [x]
        for i, block in enumerate(model._blocks):
            x = block(x)
            found += [x] if i in ends else []
        found.append(model.extract_features(given))
        logits = model._fc(found[-1].mean((2, 3)))
    named = {f"hidden.image.{i}": x.permute(0, 2, 3, 1).float().numpy() for i, x in enumerate(found)}
    named |= {"features.image": found[-1].mean((2, 3)).float().numpy()}
    return named | {"logits": logits.float().numpy()}


@functools.cache
def recordings() -> list[np.ndarray]:
    """Sentences by three synthetic voices, and what is no speech: noise, a tone, a click; 16 kHz."""
    sha256 = "08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d"
    folder = tempfile.mkdtemp()
    sources.wheel("espeakng-loader", "0.2.4", sha256).extractall(folder)
    voice = speech.Voice(pathlib.Path(folder) / "espeakng_loader")
    said = [
        voice.say(text, accent, rate, 50, 50)
        for text, accent, rate in (
            (
                "The quick brown fox jumps over the lazy dog, and then it sleeps for the rest of the day.",
                "en-us+m1",
                170,
            ),
            ("Seven.", "en-gb-scotland+m3", 150),
            ("A teacher is worth what it was trained on; its students are cheaper.", "en-us-nyc+f1", 220),
        )
    ]
    draw, time = np.random.default_rng(0), np.arange(24_000) / 16_000
    other = [0.1 * draw.normal(size=9_000), 0.5 * np.sin(2 * np.pi * 440 * time), np.eye(1, 20_000, 5_000)[0]]
    return [*sounds.waveforms(said, 16_000, speech.RATE, resample=True), *(x.astype(np.float32) for x in other)]
