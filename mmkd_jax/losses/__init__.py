"""Losses: pure functions of arrays; they return values per example and reduce nothing."""

from mmkd_jax.losses.attention.attention_kl import attention_kl as attention_kl
from mmkd_jax.losses.attention.attention_mse import attention_mse as attention_mse
from mmkd_jax.losses.attention.hidden_mse import hidden_mse as hidden_mse
from mmkd_jax.losses.attention.layer_gram import token_fsp as token_fsp
from mmkd_jax.losses.attention.layer_gram import token_nst as token_nst
from mmkd_jax.losses.attention.minilm_relations import minilm_relations as minilm_relations
from mmkd_jax.losses.attention.patient import patient as patient
from mmkd_jax.losses.contrastive.info_nce import info_nce as info_nce
from mmkd_jax.losses.features.attention_transfer import attention_transfer as attention_transfer
from mmkd_jax.losses.features.cosine import cosine as cosine
from mmkd_jax.losses.features.factor_transfer import factor_transfer as factor_transfer
from mmkd_jax.losses.features.hint import hint as hint
<<<<<<< HEAD
from mmkd_jax.losses.logits.binary import binary_cross_entropy as binary_cross_entropy
from mmkd_jax.losses.logits.binary import binary_kl as binary_kl
=======
from mmkd_jax.losses.features.mgd import mgd as mgd
from mmkd_jax.losses.features.ofd import ofd as ofd
from mmkd_jax.losses.features.vid import vid as vid
>>>>>>> methods
from mmkd_jax.losses.logits.cross_entropy import cross_entropy as cross_entropy
from mmkd_jax.losses.logits.cross_entropy import weighted_cross_entropy as weighted_cross_entropy
from mmkd_jax.losses.logits.dist import dist as dist
from mmkd_jax.losses.logits.dkd import dkd as dkd
from mmkd_jax.losses.logits.jsd import jsd as jsd
from mmkd_jax.losses.logits.kl import kl as kl
from mmkd_jax.losses.logits.kl import reverse_kl as reverse_kl
from mmkd_jax.losses.logits.logit_mse import logit_mse as logit_mse
from mmkd_jax.losses.logits.mft import mft as mft
from mmkd_jax.losses.logits.mlkd import mlkd_batch as mlkd_batch
from mmkd_jax.losses.logits.mlkd import mlkd_class as mlkd_class
from mmkd_jax.losses.logits.nkd import nkd as nkd
from mmkd_jax.losses.logits.probability_mse import probability_mse as probability_mse
from mmkd_jax.losses.logits.standardize import standardize as standardize
from mmkd_jax.losses.logits.weighted_kl import weighted_kl as weighted_kl
from mmkd_jax.losses.logits.wsld import wsld as wsld
from mmkd_jax.losses.relational.pkt import pkt as pkt
from mmkd_jax.losses.relational.rkd import rkd_angle as rkd_angle
from mmkd_jax.losses.relational.rkd import rkd_distance as rkd_distance
from mmkd_jax.losses.relational.sp import sp as sp
