"""Small encoders of mel spectra."""

import numpy as np
import transformers

from tests.parity.cases import ROWS, Case, stack


def whisper_case(kind, mels=7, length=6, **fields):
    """The encoder of a model that has a decoder, or a classifier, too."""
    decodes = kind != "ForAudioClassification"
    config = transformers.WhisperConfig(
        d_model=24, num_mel_bins=mels, max_source_positions=length, encoder_ffn_dim=40, vocab_size=60, pad_token_id=1,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8, max_target_positions=5,
        decoder_start_token_id=2, **fields,
    )  # fmt: skip
    heard = np.random.default_rng(0).normal(size=(ROWS, 2 * length, mels)).astype(np.float32)
    inputs = {"input_features": heard.transpose(0, 2, 1)}
    if decodes:
        inputs["decoder_input_ids"] = np.full((ROWS, 1), 2)

    def outputs(out):
        of = "encoder_" if decodes else ""
        hidden, attended = (getattr(out, f"{of}{n}") for n in ("hidden_states", "attentions"))
        found = {f"hidden.audio.{i}": x for i, x in enumerate(hidden[:-1])}  # the last is behind the LayerNorm
        found |= {f"attentions.audio.{i}": x for i, x in enumerate(attended)}
        return found | {"tokens.audio": hidden[-1], "features.audio": hidden[-1].mean(1)}

    return Case("Whisper", lambda: getattr(transformers, f"Whisper{kind}")(config), {"audio": heard}, inputs, outputs)


def ast_case(mels=20, frames=31, **fields):
    config = transformers.ASTConfig(
        hidden_size=24, intermediate_size=40, num_mel_bins=mels, max_length=frames, patch_size=8, **fields
    )
    heard = np.random.default_rng(0).normal(size=(ROWS, frames, mels)).astype(np.float32)

    def outputs(out):
        found = {"tokens.audio": out.last_hidden_state, "pooled.audio": out.pooler_output}
        return stack("audio", out) | found | {"features.audio": out.pooler_output}

    return Case("AST", lambda: transformers.ASTModel(config), {"audio": heard}, {"input_values": heard}, outputs)


CASES = {
    "ast": ast_case(num_hidden_layers=3, num_attention_heads=4, frequency_stride=3, time_stride=5),
    "ast, no overlap, no bias, relu": ast_case(
        24, 32, num_hidden_layers=2, num_attention_heads=1, frequency_stride=8, time_stride=8, qkv_bias=False,
        hidden_act="relu", layer_norm_eps=1e-3,
    ),
    "whisper": whisper_case("Model", encoder_layers=3, encoder_attention_heads=4),
    "whisper, transcribing": whisper_case(
        "ForConditionalGeneration", length=5, encoder_layers=1, encoder_attention_heads=3
    ),
    "whisper, classifying, tanh gelu": whisper_case(
        "ForAudioClassification", mels=10, length=9, encoder_layers=2, encoder_attention_heads=1,
        activation_function="gelu_new", use_weighted_layer_sum=True,
    ),
}  # fmt: skip
