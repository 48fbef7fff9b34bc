"""Adversarial attacks on inputs and intermediate outputs."""

from mmkd_jax.adversarial.attack_values import FGSM as FGSM
from mmkd_jax.adversarial.attack_values import PGD as PGD
from mmkd_jax.adversarial.attacks import fgsm as fgsm
from mmkd_jax.adversarial.attacks import pgd as pgd
from mmkd_jax.adversarial.attacks import row_noise as row_noise
from mmkd_jax.adversarial.inner_attack import attackable as attackable
from mmkd_jax.adversarial.inner_attack import shown as shown
from mmkd_jax.adversarial.inner_attack import under_attack as under_attack
