"""Trained students in use: their folder, predictions, and exported programs.

Imported lazily: a student in use needs neither flax nor optax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
