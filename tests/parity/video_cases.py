"""Small video encoders of every family."""

import numpy as np
import transformers

from tests.parity.cases import ROWS, Case, stack
from tests.parity.image_cases import IMAGE


def pixels(frames, size):
    """A batch, and the same as transformers takes it in −1 … 1."""
    drawn = np.random.default_rng(0).integers(0, 256, (ROWS, frames, *size, 3), dtype=np.uint8)
    return {"video": drawn}, {"pixel_values": (drawn / np.float32(127.5) - 1).transpose(0, 1, 4, 2, 3)}


def vivit_case(frames, size, tubelet, pooler=True, given=None, **fields):
    config = transformers.VivitConfig(
        num_frames=frames, image_size=list(size), tubelet_size=list(tubelet), num_hidden_layers=3, **IMAGE | fields
    )
    batch, inputs = pixels(frames, given or size)
    inputs["pixel_values"] = 2 * inputs["pixel_values"] - 1  # its processor rescales to −1 … 1, and then normalises
    inputs |= {} if given is None else {"interpolate_pos_encoding": np.array(True)}

    def outputs(out):
        found = stack("video", out) | {"tokens.video": out.last_hidden_state}
        return found | ({"pooled.video": out.pooler_output} if pooler else {})

    def make():
        return transformers.VivitModel(config, add_pooling_layer=pooler)

    return Case("ViViT", make, batch, inputs, outputs)


CASES = {
    "vivit": vivit_case(4, (8, 12), (2, 4, 3)),
    "vivit, one head, no bias, no pooler": vivit_case(
        3, (8, 8), (3, 4, 4), False, num_attention_heads=1, qkv_bias=False, hidden_act="gelu", layer_norm_eps=1e-3
    ),
    "vivit, larger frames, another pooler": vivit_case(
        2, (8, 8), (2, 4, 4), given=(12, 16), pooler_output_size=10, pooler_act="relu"
    ),
}  # fmt: skip
