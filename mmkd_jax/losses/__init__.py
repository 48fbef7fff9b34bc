"""Losses: pure functions of arrays; they return values per example and reduce nothing."""

from mmkd_jax.losses.contrastive import info_nce as info_nce
from mmkd_jax.losses.features import attention_transfer as attention_transfer
from mmkd_jax.losses.features import cosine as cosine
from mmkd_jax.losses.features import hint as hint
from mmkd_jax.losses.logits import cross_entropy as cross_entropy
from mmkd_jax.losses.logits import dkd as dkd
from mmkd_jax.losses.logits import jsd as jsd
from mmkd_jax.losses.logits import kl as kl
from mmkd_jax.losses.logits import logit_mse as logit_mse
from mmkd_jax.losses.logits import reverse_kl as reverse_kl
from mmkd_jax.losses.relational import pkt as pkt
from mmkd_jax.losses.relational import rkd_angle as rkd_angle
from mmkd_jax.losses.relational import rkd_distance as rkd_distance
from mmkd_jax.losses.relational import sp as sp
