"""A row's partner against everyone else's; with `axis` against the rows of all devices."""
