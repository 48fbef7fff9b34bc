"""Evaluation beyond task metrics: adversarial robustness, permutation importance, prior shift."""

from mmkd_jax.evaluation.permutation import permutation_importance as permutation_importance
from mmkd_jax.evaluation.priors import apply_prior_shift as apply_prior_shift
from mmkd_jax.evaluation.priors import prior_shift as prior_shift
from mmkd_jax.evaluation.under_attack import robustness as robustness
