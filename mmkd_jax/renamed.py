"""Current names of the names of version 0.1, for error messages; to be removed in the next version."""

import re

RENAMED = {
    "Views": "Outputs",
    "views": "outputs",
    "Context": "StepContext",
    "Part": "Training",
    "part": "training",
    "parts": "trainings",
    "arm": "training",
    "arms": "trainings",
    "take": "init_from",
    "Given": "PretrainedVariables",
    "given": "init_from",
    "Kept": "CacheSpec",
    "keep": "select",
    "Keep": "SubNetwork",
    "numbers": "hyperparams",
    "with_numbers": "with_hyperparams",
    "numbered": "with_method_hyperparams",
    "Number": "Scalar",
    "memory": "objective_state",
    "held": "validated",
    "checked": "validated",
    "of_all": "process_allgather",
    "leads": "is_primary_process",
    "everywhere": "replicate",
    "place": "shard_batch",
    "spread": "constrain_batch",
    "shared_out": "shard_over_devices",
    "axis": "axis_name",
    "say": "log",
    "note": "on_metrics",
    "heed": "check_interrupt",
    "stop": "should_stop",
    "begin": "on_start",
    "look": "evaluate",
    "nothing": "zero_metrics",
    "Observer": "Callbacks",
    "observer": "callbacks",
    "answer": "predict",
    "rollout": "generation",
    "next_words": "next_tokens",
    "foretold": "next_token_outputs",
    "schemes": "gradients",
    "scheme": "gradients",
    "Scheme": "Aggregator",
    "Augmented": "Compose",
    "Colour": "ColorJitter",
    "Crop": "RandomCrop",
    "Flip": "RandomFlip",
    "Drop": "ModalityDropout",
    "slot": "view_index",
    "slots": "num_views",
    "Memory": "InMemory",
    "Pipeline": "GrainLoader",
    "Reader": "Loader",
    "once": "eval_batches",
    "learned": "train_tokenizer",
    "tokenized": "tokenize",
    "obtain": "load_or_prepare",
    "visible": "masked_input",
    "expected": "ExpectedValue",
    "Frames": "PerFrame",
    "mean_where": "masked_mean",
    "permuted": "permutation_importance",
    "best_shift": "prior_shift",
    "shifted": "apply_prior_shift",
    "measured": "evaluate",
    "evaluated": "evaluate",
    "summarise": "summarize",
    "compile_part": "compile_training",
    "inner_norms": "mlp_norms",
}

_MOVED = {n: f"config.{n}" for n in "activation eps bias dropout attention_dropout dtype remat scan".split()}
_ENCODER = _MOVED | {
    "width": "config.embed_dim",
    "layers": "config.num_layers",
    "heads": "config.num_heads",
    "inner": "config.mlp_dim",
    "gated": "config.gated_mlp",
    "scaled": "config.layer_scale",
}
_SMALL = {"width": "embed_dim", "layers": "num_layers", "heads": "num_heads"}
ATTRIBUTES = {
    **dict.fromkeys(("Bert", "ClipText", "Timesformer", "Wav2Vec2", "Whisper"), _ENCODER),
    **dict.fromkeys(("Ast", "Vit"), _ENCODER | {"extra": "num_prefix_tokens"}),
    **dict.fromkeys(("ImageTransformer", "TextTransformer"), _SMALL),
    "ConvNext": {"scaled": "layer_scale"},
    "SubNetwork": {"inner": "mlp_dim", "width": "embed_dim"},
}
"""Class -> its renamed attributes, whose old names are ordinary words elsewhere."""


def hint(message: str) -> str:
    """Return a suffix for an error message that gives the current names of quoted old names; empty without any.

    Example:
        >>> hint("Training has no argument 'take'")
        '; `take` is now `init_from`'
        >>> hint("unrecognized option --scheme.c"), hint("no model 'pupil'")
        ('; `scheme` is now `gradients`', '')
        >>> hint("Vit.__init__() got an unexpected keyword argument 'heads'")
        '; `heads` is now `config.num_heads`'
    """
    kind = re.match(r"(\w+)\.__init__\(\)", message)
    renamed = RENAMED | ATTRIBUTES.get(kind[1] if kind else "", {})
    words = re.findall(r"['\"`](\w+)['\"`]|--(\w+)|\.(\w+)['\"`]", message)
    old = dict.fromkeys(w for found in words for w in found if w in renamed)
    return "".join(f"; `{w}` is now `{renamed[w]}`" for w in old)
