"""Learned prompts in front of the texts of a pretrained encoder."""

import numpy as np

from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.bert import Bert
from mmkd_jax.pretrained.attributes import replaced
from mmkd_jax.pretrained.loading import Pretrained


def with_prompts(loaded: Pretrained, count: int, seed: int = 0) -> Pretrained:
    """Return a pretrained text encoder with learned vectors in front of its tokens, for prompt tuning.

    They start as embeddings of tokens that are drawn from the vocabulary. To train them and a head alone:

        prompted = pretrained.with_prompts(pretrained.with_head(loaded, classes), 8)
        model = models.frozen_except(prompted.model, ("encoders_text.prompts", "heads_logits"))
        Trained(model, init_from=prompted.source)

    Args:
        loaded: a pretrained encoder of the BERT family.
        count: number of prompts; texts can have as many tokens fewer.
        seed: seed of the draw.

    Raises:
        UserError: the encoder takes no prompts or has them already, `count` is not positive, or there are no positions
            left for a text.

    Source: Lester et al., The Power of Scale for Parameter-Efficient Prompt Tuning, 2021,
        https://arxiv.org/abs/2104.08691

    Example:
        >>> from mmkd_jax.models import Bert, Encoders, TransformerConfig
        >>> from mmkd_jax.pretrained import initial
        >>> config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
        >>> module = Encoders({"text": Bert(9, config, length=6)})
        >>> prompted = with_prompts(Pretrained(module, initial(module), lambda texts: {}, "bert"), 2)
        >>> prompted.variables["params"]["encoders_text"]["prompts"].shape
        (2, 8)
    """
    if not isinstance(loaded, Pretrained):
        raise UserError(f"with_prompts: {type(loaded).__name__}; expected a pretrained model, from pretrained.load")
    encoder = loaded.module.encoders.get("text")
    if not isinstance(encoder, Bert):
        kinds = choices(type(e).__name__ for e in loaded.module.encoders.values())
        raise UserError(f"with_prompts: {kinds} takes no prompts; expected an encoder of the BERT family")
    if encoder.prompts:
        raise UserError(f"with_prompts: the encoder has {encoder.prompts} prompts already: pass the one without")
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise UserError(f"with_prompts: count is {shown(repr(count))}; expected a whole number, 1 or more")
    places = encoder.length - (0 if encoder.padding is None else encoder.padding + 1)
    if count >= places:
        raise UserError(f"with_prompts: count is {count}, but this model has {places} position embeddings: use fewer")
    params = loaded.variables["params"]
    own = params["encoders_text"]
    table = np.asarray(own["tokens"]["embedding"])
    drawn = np.random.default_rng(seed).choice(len(table), count, replace=count > len(table))
    encoders = {**loaded.module.encoders, "text": replaced(encoder, prompts=int(count))}
    params = {**params, "encoders_text": {**own, "prompts": table[drawn]}}
    return loaded._replace(
        module=loaded.module.clone(encoders=encoders), variables={**loaded.variables, "params": params}
    )
