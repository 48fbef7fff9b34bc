"""Contrastive losses over the rows of a batch; with `axis_name`, over the rows of all devices."""
