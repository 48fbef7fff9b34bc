"""Recipes: multi-stage distillation pipelines, as functions of a Setting that return the trainings of an experiment."""

from mmkd_jax.recipes._born_again import born_again as born_again
from mmkd_jax.recipes._cross_modal_transfer import cross_modal_transfer as cross_modal_transfer
from mmkd_jax.recipes._hallucination import hallucination as hallucination
from mmkd_jax.recipes._label_free import label_free as label_free
from mmkd_jax.recipes._md import md as md
from mmkd_jax.recipes._mtsd import mtsd as mtsd
from mmkd_jax.recipes._privileged_modalities import missing_modalities as missing_modalities
from mmkd_jax.recipes._privileged_modalities import privileged_modalities as privileged_modalities
from mmkd_jax.recipes._staged_hints import staged_hints as staged_hints
from mmkd_jax.recipes._teacher_assistant import teacher_assistant as teacher_assistant
from mmkd_jax.recipes.setting import Setting as Setting
