"""Paper tables: published figures, ours over many seeds, and a verdict for each cell."""

from mmkd_jax.tables.table import Figure as Figure
from mmkd_jax.tables.table import Table as Table
from mmkd_jax.tables.table import figures as figures
