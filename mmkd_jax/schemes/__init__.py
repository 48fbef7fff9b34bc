"""What becomes of the gradients of an objective's terms. `mmkd losses` lists them all."""

from mmkd_jax.schemes.cagrad import cagrad as cagrad
from mmkd_jax.schemes.gradnorm import gradnorm as gradnorm
from mmkd_jax.schemes.pcgrad import pcgrad as pcgrad
from mmkd_jax.schemes.scheme import Scheme as Scheme
from mmkd_jax.schemes.total import total as total
from mmkd_jax.schemes.uncertainty import uncertainty as uncertainty
