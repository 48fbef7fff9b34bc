"""Published methods that are more than a loss: functions that return an Objective."""

from mmkd_jax.methods.crd import crd as crd
from mmkd_jax.methods.interchange import interchange as interchange
from mmkd_jax.methods.reviewkd import reviewkd as reviewkd
from mmkd_jax.methods.rslad import rslad as rslad
from mmkd_jax.methods.semckd import semckd as semckd
from mmkd_jax.methods.srrl import srrl as srrl
