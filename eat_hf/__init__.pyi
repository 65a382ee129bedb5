# What the package exports, read by type checkers and, through lazy_loader, at run time.
# diffusers decides how to load a pipeline's component by looking for its own base classes in our namespace.
from .inputs.head_motion import HeadMotion as HeadMotion
from .inputs.head_motion import NaturalMotion as NaturalMotion
from .inputs.landmark_network import FaceLandmarks as FaceLandmarks
from .models.a2et import A2ET as A2ET
from .models.detail_renderer import DetailRenderer as DetailRenderer
from .models.edn import EDN as EDN
from .models.emotion_mapper import EmotionMapper as EmotionMapper
from .models.expression_basis import ExpressionBasis as ExpressionBasis
from .models.judges.emotion_fan import EmotionFAN as EmotionFAN
from .models.judges.sync_expert import SyncExpert as SyncExpert
from .models.judges.syncnet import SyncNet as SyncNet
from .models.keypoint_detector import CanonicalKeypointDetector as CanonicalKeypointDetector
from .models.landmark_detector import LandmarkDetector as LandmarkDetector
from .models.layers import ConfigMixin as ConfigMixin
from .models.layers import ModelMixin as ModelMixin
from .models.motion_estimator import MotionEstimator as MotionEstimator
from .models.repos_net import RePosNet as RePosNet
from .models.speech_encoder import DeepSpeechEncoder as DeepSpeechEncoder
from .models.streaming_speech_encoder import StreamingSpeechEncoder as StreamingSpeechEncoder
from .models.transformers_speech_encoder import TransformersSpeechEncoder as TransformersSpeechEncoder
from .models.voice_emotion_model import VoiceEmotionModel as VoiceEmotionModel
from .pipeline.live import LiveSession as LiveSession
from .pipeline.pipeline_eat import EATPipeline as EATPipeline
from .pipeline.pipeline_output import EATPipelineOutput as EATPipelineOutput
from .version import __version__ as __version__
