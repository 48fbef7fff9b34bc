"""Reports of a run: tables, figures, logs, verdicts."""

from mmkd_jax.reporting.loggers import tensorboard as tensorboard
from mmkd_jax.reporting.loggers import wandb as wandb
from mmkd_jax.reporting.markdown import markdown_table as markdown_table
from mmkd_jax.reporting.report import points as points
from mmkd_jax.reporting.report import summarize as summarize
from mmkd_jax.reporting.verdicts import page as page
from mmkd_jax.reporting.verdicts import verdict as verdict
