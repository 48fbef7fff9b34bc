"""Methods that align features, predictions or subspaces."""
