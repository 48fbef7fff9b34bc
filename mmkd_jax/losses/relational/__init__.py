"""Relational losses: match relations between examples of a batch; with `axis_name`, of all devices' batches."""
