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
    inputs["pixel_values"] = 2 * inputs["pixel_values"] - 1  # its processor rescales to −1 … 1, and then normalizes
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


def timesformer_case(frames, attention, size=8, given=None, **fields):
    config = transformers.TimesformerConfig(
        num_frames=frames,
        attention_type=attention,
        image_size=size,
        patch_size=4,
        num_hidden_layers=3,
        **IMAGE | fields,
    )
    seen, *place = given or (frames, size, size)
    batch, inputs = pixels(seen, place)

    def own(x):  # theirs has frames as rows where the attention is over space
        return x if len(x) == ROWS else x.reshape(ROWS, seen, *x.shape[1:])

    def outputs(out):
        return {k: own(x) for k, x in (stack("video", out) | {"tokens.video": out.last_hidden_state}).items()}

    return Case("TimeSformer", lambda: transformers.TimesformerModel(config), batch, inputs, outputs)


DIVIDED, SPACE, JOINT = "divided_space_time", "space_only", "joint_space_time"
CASES |= {
    "timesformer": timesformer_case(4, DIVIDED),
    "timesformer, one head, no bias, larger frames": timesformer_case(
        2, DIVIDED, given=(2, 16, 24), num_attention_heads=1, qkv_bias=False, layer_norm_eps=1e-3
    ),
    "timesformer, over space": timesformer_case(3, SPACE, 12, hidden_act="gelu_new"),
    "timesformer, over space, smaller frames": timesformer_case(3, SPACE, 20, (2, 8, 12)),
    "timesformer, over both": timesformer_case(2, JOINT, hidden_act="relu"),
    "timesformer, over both, more and larger frames": timesformer_case(3, JOINT, 12, (5, 20, 16)),
}  # fmt: skip
