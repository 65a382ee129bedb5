"""Emotional talking heads from one portrait and a voice: EAT (Gan et al., ICCV 2023) for the Hugging Face ecosystem."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_EXPORTS = {
    "EATPipeline": "eat_hf.pipeline",
    "EATPipelineOutput": "eat_hf.performance",
    "HeadMotion": "eat_hf.head_motion",
    "A2ET": "eat_hf.models.a2et",
    "CanonicalKeypointDetector": "eat_hf.models.keypoint_detector",
    "DeepSpeechEncoder": "eat_hf.models.speech_encoder",
    "EDN": "eat_hf.models.edn",
    "EmotionFAN": "eat_hf.models.emotion_fan",
    "EmotionMapper": "eat_hf.models.emotion_mapper",
    "ExpressionBasis": "eat_hf.models.expression_basis",
    "MotionEstimator": "eat_hf.models.motion_estimator",
    "RePosNet": "eat_hf.models.repos_net",
    "SyncExpert": "eat_hf.models.sync_expert",
    "SyncNet": "eat_hf.models.syncnet",
    # diffusers decides how to load a pipeline's component by looking for its own base classes in our namespace
    "ConfigMixin": "diffusers",
    "ModelMixin": "diffusers",
}

__all__ = [
    "A2ET",
    "CanonicalKeypointDetector",
    "ConfigMixin",
    "DeepSpeechEncoder",
    "EATPipeline",
    "EATPipelineOutput",
    "EDN",
    "EmotionFAN",
    "EmotionMapper",
    "ExpressionBasis",
    "HeadMotion",
    "ModelMixin",
    "MotionEstimator",
    "RePosNet",
    "SyncExpert",
    "SyncNet",
    "__version__",
]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'eat_hf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from diffusers import ConfigMixin, ModelMixin

    from .head_motion import HeadMotion
    from .models.a2et import A2ET
    from .models.edn import EDN
    from .models.emotion_fan import EmotionFAN
    from .models.emotion_mapper import EmotionMapper
    from .models.expression_basis import ExpressionBasis
    from .models.keypoint_detector import CanonicalKeypointDetector
    from .models.motion_estimator import MotionEstimator
    from .models.repos_net import RePosNet
    from .models.speech_encoder import DeepSpeechEncoder
    from .models.sync_expert import SyncExpert
    from .models.syncnet import SyncNet
    from .performance import EATPipelineOutput
    from .pipeline import EATPipeline
