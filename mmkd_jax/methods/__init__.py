"""Published methods that are more than a loss: functions that return an Objective."""

from mmkd_jax.methods.adaad import adaad as adaad
from mmkd_jax.methods.ard import ard as ard
from mmkd_jax.methods.crd import crd as crd
from mmkd_jax.methods.discriminator import discriminator as discriminator
from mmkd_jax.methods.c2kd import c2kd as c2kd
from mmkd_jax.methods.ccl import ccl as ccl
from mmkd_jax.methods.crd import crd as crd
from mmkd_jax.methods.dmd import dmd as dmd
from mmkd_jax.methods.factor_transfer import factor_transfer as factor_transfer
from mmkd_jax.methods.iad import iad as iad
from mmkd_jax.methods.feature_alignment import feature_alignment as feature_alignment
from mmkd_jax.methods.interchange import interchange as interchange
from mmkd_jax.methods.label_alignment import label_alignment as label_alignment
from mmkd_jax.methods.mgd import mgd as mgd
from mmkd_jax.methods.mke import mke as mke
from mmkd_jax.methods.ofd import ofd as ofd
from mmkd_jax.methods.pad import pad as pad
from mmkd_jax.methods.reviewkd import reviewkd as reviewkd
from mmkd_jax.methods.rslad import rslad as rslad
from mmkd_jax.methods.semckd import semckd as semckd
from mmkd_jax.methods.srrl import srrl as srrl
from mmkd_jax.methods.trades import trades as trades
from mmkd_jax.methods.umt import umt as umt
from mmkd_jax.methods.subspace_alignment import subspace_alignment as subspace_alignment
from mmkd_jax.methods.vid import vid as vid
