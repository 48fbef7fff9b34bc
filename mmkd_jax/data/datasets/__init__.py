"""TFDS builders, one file each; the file's name is the data set's."""
