"""Emotional talking heads from one portrait and a voice: EAT (Gan et al., ICCV 2023) for the Hugging Face ecosystem.

The public names stand in `__init__.pyi`; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
