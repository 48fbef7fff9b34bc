"""Published methods that are more than a loss: functions that return an Objective."""

from mmkd_jax.methods.crd import crd as crd
from mmkd_jax.methods.interchange import interchange as interchange
from mmkd_jax.methods.rslad import rslad as rslad
