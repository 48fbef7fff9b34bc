"""Multimodal knowledge distillation in JAX.

`import mmkd_jax as mmkd` is the whole surface: `__init__.pyi` lists it. Everything is imported on first use, so that
importing the package costs nothing and imports no jax.
"""

import sys

import lazy_loader

__version__ = "0.2.0"

_lazy, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str):
    try:
        return _lazy(name)
    except AttributeError as error:
        from mmkd_jax.renamed import hint

        if error.args != (f"No {__name__} attribute {name}",):
            raise  # an error within the module that was to be loaded
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message + hint(message), name=name, obj=sys.modules[__name__]) from None
