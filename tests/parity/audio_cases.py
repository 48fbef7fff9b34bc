"""Small audio encoders on waveforms."""

import numpy as np
import transformers

from tests.parity.cases import ROWS, Case, stack

SAMPLES = 90


def wave_case(family, kind, lengths=(SAMPLES,) * ROWS, last_normed=False, **fields):
    """An encoder of a few convolutions; recordings of unlike lengths come with a mask."""
    config = getattr(transformers, f"{kind}Config")(**SMALL | fields)
    mask = np.arange(SAMPLES)[None] < np.array(lengths)[:, None]
    waves = np.where(mask, np.random.default_rng(0).normal(size=(ROWS, SAMPLES)), 0).astype(np.float32)
    batch: dict[str, np.ndarray] = {"audio": waves}
    inputs: dict[str, np.ndarray] = {"input_values": waves}
    if not mask.all():
        batch["audio.mask"], inputs["attention_mask"] = mask, mask.astype(int)

    def outputs(out):
        found = stack("audio", out) | {"tokens.audio": out.last_hidden_state}
        if last_normed:  # transformers gives the last state after the last LayerNorm
            del found[f"hidden.audio.{config.num_hidden_layers}"]
        return found

    return Case(family, lambda: getattr(transformers, f"{kind}Model")(config), batch, inputs, outputs)


SMALL = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
    "conv_dim": (16, 12), "conv_kernel": (5, 3), "conv_stride": (3, 2), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 3,
}  # fmt: skip
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
CASES = {
    "data2vec, audio": wave_case(
        "data2vec", "Data2VecAudio", num_conv_pos_embeddings=2, conv_pos_kernel_size=4, num_hidden_layers=2
    ),
    "wavlm": wave_case("WavLM", "WavLM", layer_norm_eps=1e-3, num_buckets=8, max_bucket_distance=6),
    "wavlm, stable, padded": wave_case(
        "WavLM", "WavLM", (90, 47, 12), **STABLE, num_buckets=8, max_bucket_distance=6, last_normed=True,
        num_hidden_layers=2,
    ),
    "wav2vec 2.0": wave_case("wav2vec 2.0", "Wav2Vec2", layer_norm_eps=1e-3),
    "wav2vec 2.0, stable, padded": wave_case("wav2vec 2.0", "Wav2Vec2", (90, 47, 12), **STABLE),
    "wav2vec 2.0, odd reach, relu, unmasked": wave_case(
        "wav2vec 2.0", "Wav2Vec2", num_conv_pos_embeddings=5, num_conv_pos_embedding_groups=1, hidden_act="relu",
        feat_extract_activation="gelu_new", mask_time_prob=0.0, num_attention_heads=1,
    ),
    "hubert": wave_case("HuBERT", "Hubert", num_attention_heads=2),
    "hubert, stable, padded": wave_case("HuBERT", "Hubert", (90, 30, 60), True, **STABLE),
    "hubert, features without norm": wave_case("HuBERT", "Hubert", feat_proj_layer_norm=False, conv_bias=True),
}  # fmt: skip
