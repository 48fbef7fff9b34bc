"""Ways of running that are more than one objective: functions of a Setting that return parts of an experiment."""

from mmkd_jax.recipes.born_again import born_again as born_again
from mmkd_jax.recipes.cross_modal_transfer import cross_modal_transfer as cross_modal_transfer
from mmkd_jax.recipes.hallucination import hallucination as hallucination
from mmkd_jax.recipes.label_free import label_free as label_free
from mmkd_jax.recipes.md import md as md
from mmkd_jax.recipes.mtsd import mtsd as mtsd
from mmkd_jax.recipes.setting import Setting as Setting
from mmkd_jax.recipes.staged_hints import staged_hints as staged_hints
from mmkd_jax.recipes.teacher_assistant import teacher_assistant as teacher_assistant
