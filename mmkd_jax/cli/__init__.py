"""Command line interface: `main(arguments)` runs the command `mmkd`."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from mmkd_jax.cli import catalogue as catalogue
    from mmkd_jax.cli.commands import main as main

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["catalogue"], {"commands": ["main"]})
