"""Paper tables: published results, our results over many seeds, and a verdict per cell."""

from mmkd_jax.paper_tables.table import Figure as Figure
from mmkd_jax.paper_tables.table import Table as Table
from mmkd_jax.paper_tables.table import figures as figures
