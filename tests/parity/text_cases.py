"""Small text encoders of every family."""

import numpy as np
import transformers

from tests.parity.cases import ROWS, Case, stack

LENGTH = 9


def texts(vocabulary: int, padding: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A batch of token ids of unlike lengths, and the same as arguments."""
    draw, lengths = np.random.default_rng(0), np.array([LENGTH, 5, 1])
    mask = np.arange(LENGTH)[None] < lengths[:, None]
    ids = np.where(mask, draw.integers(padding + 1, vocabulary, (ROWS, LENGTH)), padding)
    return {"text.ids": ids.astype(np.int32), "text.mask": mask}, {"input_ids": ids, "attention_mask": mask.astype(int)}


def text_case(family, kind, types=False, pooler=True, last_normed=False, **fields):
    config = getattr(transformers, f"{kind}Config")(**fields)
    padding = config.pad_token_id
    batch, inputs = texts(config.vocab_size, padding)
    if types:
        batch["text.types"] = (np.arange(LENGTH)[None] > np.array([4, 2, 0])[:, None]).astype(np.int32)
        inputs["token_type_ids"] = batch["text.types"].astype(int)

    def outputs(out):
        found = stack("text", out) | ({"pooled.text": out.pooler_output} if pooler else {})
        if last_normed:  # transformers gives the last state after the last LayerNorm
            found["tokens.text"] = found.pop(f"hidden.text.{config.num_hidden_layers}")
        return found

    def make():
        more = {"add_pooling_layer": False} if kind not in UNPOOLED and not pooler else {}
        return getattr(transformers, f"{kind}Model")(config, **more)

    return Case(family, make, batch, inputs, outputs)


UNPOOLED = ("DistilBert", "Electra", "DebertaV2", "ModernBert")
SMALL = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
RELATIVE = {"relative_attention": True, "pos_att_type": "p2c|c2p", "max_position_embeddings": LENGTH}
WINDOWED = {"local_attention": 4, "max_position_embeddings": LENGTH}
WINDOWED |= {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
CASES = {
    "bert": text_case("BERT", "Bert", types=True, **SMALL, layer_norm_eps=1e-3),
    "bert, one head, relu, no pooler": text_case(
        "BERT", "Bert", pooler=False, **SMALL | {"num_attention_heads": 1}, hidden_act="relu", type_vocab_size=1
    ),
    "bert, tanh gelu, few positions": text_case(
        "BERT", "Bert", **SMALL | {"num_attention_heads": 12}, hidden_act="gelu_new", max_position_embeddings=LENGTH
    ),
    "roberta": text_case("RoBERTa", "Roberta", **SMALL, pad_token_id=1, max_position_embeddings=LENGTH + 2),
    "roberta, other padding": text_case("RoBERTa", "Roberta", pooler=False, **SMALL, pad_token_id=3, type_vocab_size=2),
    "xlm-roberta": text_case("XLM-R", "XLMRoberta", **SMALL, pad_token_id=1, layer_norm_eps=1e-5),
    "data2vec, text": text_case("data2vec", "Data2VecText", **SMALL | {"num_hidden_layers": 1}, pad_token_id=1),
    "distilbert": text_case(
        "DistilBERT", "DistilBert", pooler=False, vocab_size=50, dim=24, n_layers=3, n_heads=4, hidden_dim=40
    ),
    "distilbert, sinusoidal, relu": text_case(
        "DistilBERT", "DistilBert", pooler=False, vocab_size=50, dim=24, n_layers=1, n_heads=2, hidden_dim=48,
        sinusoidal_pos_embds=True, activation="relu",
    ),
    "electra": text_case("ELECTRA", "Electra", types=True, pooler=False, **SMALL, embedding_size=16),
    "electra, wide embeddings": text_case(
        "ELECTRA", "Electra", pooler=False, **SMALL | {"num_hidden_layers": 1}, embedding_size=24, hidden_act="relu"
    ),
    "mpnet": text_case("MPNet", "MPNet", **SMALL, max_position_embeddings=LENGTH + 2, layer_norm_eps=1e-5),
    "deberta-v3": text_case(
        "DeBERTa", "DebertaV2", pooler=False, **SMALL | {"num_hidden_layers": 2}, **RELATIVE,
        position_buckets=4, share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False,
    ),
    "deberta-v2, convolution, own projections": text_case(
        "DeBERTa", "DebertaV2", types=True, pooler=False, **SMALL | {"num_hidden_layers": 2, "hidden_size": 16},
        **RELATIVE, max_relative_positions=5, type_vocab_size=2, conv_kernel_size=3, conv_act="gelu",
    ),
    "modernbert": text_case(
        "ModernBERT", "ModernBert", pooler=False, last_normed=True, **SMALL | {"num_hidden_layers": 4}, **WINDOWED
    ),
    "modernbert, biases, other wavelengths": text_case(
        "ModernBERT", "ModernBert", pooler=False, last_normed=True, **SMALL | {"num_hidden_layers": 2}, **WINDOWED,
        norm_bias=True, attention_bias=True, mlp_bias=True, global_attn_every_n_layers=1, global_rope_theta=50.0,
        hidden_activation="silu",
    ),
    "albert": text_case("ALBERT", "Albert", types=True, **SMALL, embedding_size=16, layer_norm_eps=1e-3),
}  # fmt: skip
