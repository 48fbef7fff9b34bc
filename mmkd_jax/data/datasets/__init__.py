"""TFDS builders, one file per data set, named after it."""
