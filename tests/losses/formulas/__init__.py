"""The losses as their papers write them, in plain NumPy: one value per row; nothing masked, nothing extreme."""
