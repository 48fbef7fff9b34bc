"""Losses between the relations of a batch's rows; with `axis` the rows of all devices are related."""
