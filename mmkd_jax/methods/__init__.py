"""Published methods that are more than a loss: functions that return an Objective."""

from mmkd_jax.methods.clip_afd import clip_afd as clip_afd
from mmkd_jax.methods.clip_kd import clip_kd as clip_kd
from mmkd_jax.methods.clip_mfd import clip_mfd as clip_mfd
from mmkd_jax.methods.compress import compress as compress
from mmkd_jax.methods.crd import crd as crd
from mmkd_jax.methods.factor_transfer import factor_transfer as factor_transfer
from mmkd_jax.methods.interchange import interchange as interchange
from mmkd_jax.methods.mgd import mgd as mgd
from mmkd_jax.methods.ofd import ofd as ofd
from mmkd_jax.methods.pad import pad as pad
from mmkd_jax.methods.reviewkd import reviewkd as reviewkd
from mmkd_jax.methods.rslad import rslad as rslad
from mmkd_jax.methods.seed import seed as seed
from mmkd_jax.methods.semckd import semckd as semckd
from mmkd_jax.methods.srrl import srrl as srrl
from mmkd_jax.methods.vid import vid as vid
