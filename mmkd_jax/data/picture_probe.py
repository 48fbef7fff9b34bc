"""Script of `transformers_child`: create an image processor, and process a few pictures with it.

Standard input: JSON, `[name of the class without its ending, settings]`. Output: `kind`, the class that needs no
PyTorch; `version` of transformers; `shape`, height and width of the result, null if they depend on the picture; `low`
and `high`, the values of black and of white in each channel; `side`, the longest side of any picture that is made of a
square, and `growth`, that side over the square's for squares that are large; `on_white`, whether it converts to RGB.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

SMALL, LARGE = 64, (256, 256)


@contextlib.contextmanager
def recorded() -> Iterator[list[int]]:
    """Record the sides of all pictures that Pillow resizes."""
    sides: list[int] = []
    resize = Image.Image.resize

    def resized(self, size, *arguments, **options):
        result = resize(self, size, *arguments, **options)
        sides.extend(result.size)
        return result

    Image.Image.resize = resized
    try:
        yield sides
    finally:
        Image.Image.resize = resize


def load() -> None:
    """Import transformers, with its table of classes."""
    import transformers.models.auto.image_processing_auto  # noqa: F401


def reply(data: bytes) -> dict[str, Any]:
    """Process the pictures, and return what is printed."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    base, settings = json.loads(data)
    known = IMAGE_PROCESSOR_MAPPING_NAMES.values()
    without = {each["pil"] for each in known if each.get("pil")}
    found = [n for n in (f"{base}ImageProcessorPil", f"{base}ImageProcessor") if n in without]
    if not found and f"{base}ImageProcessor" in {n for each in known for n in each.values()}:
        return {"refused": "it needs PyTorch there"}
    if not found:
        return {"refused": f"version {transformers.__version__} does not have it"}
    processor = getattr(transformers, found[0]).from_dict(settings)

    def processed(width, height, level=0):
        picture = Image.fromarray(np.full((height, width, 3), level, np.uint8))
        with recorded() as sides:
            result = processor(images=[picture], return_tensors="np")
        if others := set(result) - {"pixel_values"}:
            raise ValueError(f"it returns {', '.join(sorted(others))}, which the models here do not read")
        x = np.asarray(result["pixel_values"])
        if x.ndim != 4 or len(x) != 1 or x.shape[1] not in (1, 3) or not np.isfinite(x).all():
            raise ValueError(f"it returns {x.dtype} of shape {list(x.shape)}; expected finite [1, channels, h, w]")
        return x[0], max(*sides, *x.shape[2:])

    (low, side), (high, _), (large, longest) = processed(SMALL, SMALL), processed(SMALL, SMALL, 255), processed(*LARGE)
    others = [processed(*size)[0] for size in ((SMALL, SMALL // 2 + 1), (SMALL // 2, SMALL + 27))]
    middle = [[float(c[c.shape[0] // 2, c.shape[1] // 2]) for c in x] for x in (low, high)]
    return {
        "kind": found[0],
        "version": transformers.__version__,
        "shape": list(low.shape[1:]) if {x.shape for x in (large, *others)} == {low.shape} else None,
        "low": middle[0],
        "high": middle[1],
        "side": side,
        "growth": longest / LARGE[0] if longest > side else 0.0,
        "on_white": bool(getattr(processor, "do_convert_rgb", False)),
    }
