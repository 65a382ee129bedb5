"""Measuring talking-head videos against real ones, the way the field does; see `evaluate`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
