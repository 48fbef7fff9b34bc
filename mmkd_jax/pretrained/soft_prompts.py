"""Learned prompts beside the tokens of a text, or the patches of an image, in a pretrained encoder."""

import numpy as np

from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.models.bert import Bert
from mmkd_jax.models.vit import Vit
from mmkd_jax.pretrained.attributes import replaced
from mmkd_jax.pretrained.loading import Pretrained


def with_prompts(loaded: Pretrained, count: int, seed: int = 0) -> Pretrained:
    """Return a pretrained encoder with learned vectors beside the tokens of its text or image, for prompt tuning.

    Those of a text are in front of it, and start as embeddings of tokens that are drawn from the vocabulary. Those of
    an image have no positions, and start uniformly in −v … v, v = √(6 / (c h w + d)) for patches of c · h · w values
    and tokens of width d. To train them and a head alone:

        prompted = pretrained.with_prompts(pretrained.with_head(loaded, classes), 8)
        model = models.frozen_except(prompted.model, ("encoders_text.prompts", "heads_logits"))
        Trained(model, init_from=prompted.source)

    Args:
        loaded: a pretrained encoder of the BERT family, or of images and of the ViT family: ViT, DeiT, DINOv2, CLIP,
            SigLIP. Of CLIP's and SigLIP's encoders, that of images gets the prompts.
        count: number of prompts; texts can have as many tokens fewer.
        seed: seed of the draw.

    Raises:
        UserError: the encoder takes no prompts or has them already, `count` is not positive, or there are no positions
            left for a text.

    Source: Lester et al., The Power of Scale for Parameter-Efficient Prompt Tuning, 2021,
        https://arxiv.org/abs/2104.08691; Jia et al., Visual Prompt Tuning, 2022, https://arxiv.org/abs/2203.12119

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
    found = loaded.module.encoders
    modality = next((m for m, kind in (("text", Bert), ("image", Vit)) if type(found.get(m)) is kind), None)
    if modality is None:
        kinds = choices(type(e).__name__ for e in found.values())
        raise UserError(
            f"with_prompts: {kinds} takes no prompts; expected a text encoder of the BERT family, or an image encoder "
            "of the ViT family"
        )
    encoder, own = found[modality], loaded.variables["params"][f"encoders_{modality}"]
    if encoder.prompts:
        raise UserError(f"with_prompts: the encoder has {encoder.prompts} prompts already: pass the one without")
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise UserError(f"with_prompts: count is {shown(repr(count))}; expected a whole number, 1 or more")
    draw = np.random.default_rng(seed)
    prompts = _of_text(encoder, own, count, draw) if modality == "text" else _of_image(encoder, own, count, draw)
    params = {**loaded.variables["params"], f"encoders_{modality}": {**own, "prompts": prompts}}
    encoders = {**found, modality: replaced(encoder, prompts=int(count))}
    return loaded._replace(
        module=loaded.module.clone(encoders=encoders), variables={**loaded.variables, "params": params}
    )


def _of_text(encoder, params, count, draw):
    places = encoder.length - (0 if encoder.padding is None else encoder.padding + 1)
    if count >= places:
        raise UserError(f"with_prompts: count is {count}, but this model has {places} position embeddings: use fewer")
    table = np.asarray(params["tokens"]["embedding"])
    return table[draw.choice(len(table), count, replace=count > len(table))]


def _of_image(encoder, params, count, draw):
    table = np.asarray(params["positions"])
    width = np.sqrt(6 / (encoder.channels * np.prod(encoder.patch) + table.shape[1]))
    return draw.uniform(-width, width, (count, table.shape[1])).astype(table.dtype)
