"""Losses: pure functions of arrays; they return values per example and reduce nothing."""

from mmkd_jax.losses.contrastive.info_nce import info_nce as info_nce
from mmkd_jax.losses.features.attention_transfer import attention_transfer as attention_transfer
from mmkd_jax.losses.features.cosine import cosine as cosine
from mmkd_jax.losses.features.hcl import hcl as hcl
from mmkd_jax.losses.features.hint import hint as hint
from mmkd_jax.losses.features.semckd import semckd as semckd
from mmkd_jax.losses.features.simkd import simkd as simkd
from mmkd_jax.losses.features.srrl import srrl as srrl
from mmkd_jax.losses.logits.cross_entropy import cross_entropy as cross_entropy
from mmkd_jax.losses.logits.dkd import dkd as dkd
from mmkd_jax.losses.logits.jsd import jsd as jsd
from mmkd_jax.losses.logits.kl import kl as kl
from mmkd_jax.losses.logits.kl import reverse_kl as reverse_kl
from mmkd_jax.losses.logits.logit_mse import logit_mse as logit_mse
from mmkd_jax.losses.relational.pkt import pkt as pkt
from mmkd_jax.losses.relational.rkd import rkd_angle as rkd_angle
from mmkd_jax.losses.relational.rkd import rkd_distance as rkd_distance
from mmkd_jax.losses.relational.sp import sp as sp
