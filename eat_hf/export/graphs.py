"""The bundled kind of model as six graphs, from a picture and rows of sound to frames. Tensors only, nothing drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .. import keypoints as kp
from ..animation.networks import Networks
from ..animation.portrait import locate_keypoints, read_motion
from ..models.detail_renderer import SIZE, DetailFeatures
from ..models.streaming_speech_encoder import StreamingSpeechEncoder
from .closed_forms import hull_volume

FRAMES, PORTRAITS, SIDE, ROWS, WINDOWED = "frames", "portraits", "side", "rows", "frames + window - 1"


@dataclass
class Graph:
    """A network, or several, as one graph.

    Attributes:
        name: of its file.
        module: takes the inputs in order.
        about: what it does, and how often it is run.
        inputs: examples by name.
        meanings: of all inputs and outputs, by name; the outputs are those that are no inputs.
        axes: names of the axes whose size is free, by input or output and number.
    """

    name: str
    module: nn.Module
    about: str
    inputs: Mapping[str, Tensor]
    meanings: Mapping[str, str]
    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @property
    def outputs(self) -> list[str]:
        return [name for name in self.meanings if name not in self.inputs]


class _Graph(nn.Module):
    def __init__(self, networks: Networks):
        super().__init__()
        self.networks = networks
        self.parts = nn.ModuleDict(networks.components)  # whose weights the exporter writes
        self.eval()


class ReadPortrait(_Graph):
    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        networks, basis = self.networks, self.networks.expression_basis
        motion = read_motion(networks.motion_estimator, picture)
        frame = basis.config.expression_frame
        canonical, keypoints, prediction_map = locate_keypoints(networks.keypoint_detector, picture, motion, frame)
        exponent = basis.config.hull_volume_exponent
        canonical = basis.rest_lips(canonical, hull_volume(canonical) ** exponent)
        scale = hull_volume(canonical) ** exponent
        return canonical, keypoints, prediction_map, motion.angles, motion.translation, scale


class EncodePortrait(_Graph):
    def forward(self, detailed: Tensor) -> tuple[Tensor, Tensor]:
        features = self.networks.repos_net.encode(detailed)
        return features.volume, features.thumbnail


class Hear(_Graph):
    def forward(self, rows: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        encoder = self.networks.speech_encoder
        assert isinstance(encoder, StreamingSpeechEncoder)
        scores, after = encoder.hear(rows, list(state))
        return scores, *after


class Feel(_Graph):
    def forward(self, noise: Tensor, prediction_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        networks, count = self.networks, len(self.networks.emotion_mapper.heads)
        rows = [networks.emotion_mapper.of_one(noise[i : i + 1], i) for i in range(count)]
        prompts = torch.cat(rows)
        face = networks.a2et.face_features(prediction_map.expand(count, -1, -1, -1, -1), prompts[:, 0])
        return prompts, face, networks.edn(face, prompts).expression


class Speak(_Graph):
    def forward(
        self,
        semantic: Tensor,
        mel: Tensor,
        pose_pictures: Tensor,
        angles: Tensor,
        translation: Tensor,
        prompts: Tensor,
        face: Tensor,
        deformation: Tensor,
    ) -> Tensor:
        a2et, count = self.networks.a2et, angles.shape[0]
        places = torch.arange(count)[:, None] + torch.arange(a2et.config.window)
        tokens = a2et.encode_speech(semantic, pose_pictures)
        head_pose = a2et.head_pose_token(*(kp.logits_from_degrees(angle) for angle in angles.unbind(1)), translation)
        guidance, deep = prompts[:1].expand(count, -1), prompts[None, 1:].expand(count, -1, -1)
        acoustic = a2et.acoustic_tokens(mel[places], face[None].expand(count, -1, -1, -1), guidance)
        spoken = self.networks.expression_basis(a2et.predict(tokens[places], acoustic, head_pose, deep))
        return spoken + deformation


class Move(_Graph):
    def forward(
        self,
        canonical: Tensor,
        scale: Tensor,
        expression: Tensor,
        angles: Tensor,
        translation: Tensor,
        blink: Tensor,
        gaze: Tensor,
    ) -> Tensor:
        config = self.networks.expression_basis.config
        for track, deformation in ((blink[:, None], config.blink_deformation), (gaze, config.gaze_deformation)):
            if deformation is not None:
                expression = expression + track @ torch.tensor(deformation).reshape(track.shape[1], -1)
        rotation = kp.rotation_from_degrees(*angles.unbind(1))
        return kp.compose_keypoints(canonical, rotation, translation, expression * scale, config.expression_frame)


class Render(_Graph):
    def forward(
        self,
        detailed: Tensor,
        volume: Tensor,
        thumbnail: Tensor,
        keypoints: Tensor,
        driving: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        source = DetailFeatures(volume=volume, picture=detailed, thumbnail=thumbnail)
        frames = self.networks.repos_net.render(source, keypoints, driving[None], guidance[None]).frames[0]
        return (frames * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def bundled_graphs(networks: Networks, count: int = 3) -> list[Graph]:
    """All graphs of a model of the bundled kind, in the order in which they are run; of `count` frames in examples."""
    basis, a2et, encoder = networks.expression_basis.config, networks.a2et.config, networks.speech_encoder
    assert isinstance(encoder, StreamingSpeechEncoder)
    keypoints, window = basis.keypoints, a2et.window
    generator = torch.Generator().manual_seed(0)

    def noise(*sizes: int) -> Tensor:
        return torch.rand(sizes, generator=generator)

    with torch.no_grad():
        picture, detailed = noise(2, 3, SIZE, SIZE), noise(1, 3, 2 * SIZE, 2 * SIZE)
        prediction_map = networks.keypoint_detector(picture[:1]).prediction_map
        features = networks.repos_net.encode(detailed)
        latent = noise(len(networks.emotion_mapper.heads), networks.emotion_mapper.config.latent)
        prompts, face, deformation = Feel(networks)(latent, prediction_map)
    around = count + window - 1
    silence = encoder.silence(1, noise(1))
    states = [f"state_{number}" for number in range(len(silence))]
    angles, translation, points = 30 * noise(count, 3), noise(count, 3), noise(1, keypoints, 3)
    turned = {
        "angles": "yaw, pitch and roll of every frame's head, in degrees",
        "translation": "where every frame's head is, in half widths of the picture",
    }
    felt = {
        "prompts": "of every emotion, in the model's order: the first one is the guidance of the renderer",
        "face": "what A2ET sees of the portrait's face, in every emotion",
        "deformation": "of the expression, by every emotion alone",
    }
    seen = {
        "canonical": "keypoints of the face, frontal and at rest",
        "keypoints": "as the picture shows them: x right, y down, z towards the viewer, [-1, 1] across the picture",
        "prediction_map": "of the keypoint detector; A2ET reads the face from it",
    }
    drawn = {"volume": "features of the portrait", "thumbnail": "the portrait, reduced"}
    large = "the portrait as large as the frames, square, RGB in [0, 1]; its side is a multiple of 256"
    remembered = {name: "what was heard before; zeros before the first row" for name in states}
    return [
        Graph(
            "portrait",
            ReadPortrait(networks),
            "Reads portraits. Once a portrait.",
            {"picture": picture},
            {"picture": "aligned portraits, RGB in [0, 1]"}
            | seen
            | {"angles": "yaw, pitch and roll, in degrees", "translation": "in half widths of the picture"}
            | {"scale": "size of the face, which expressions grow with"},
            {name: {0: PORTRAITS} for name in ("picture", *seen, "angles", "translation", "scale")},
        ),
        Graph(
            "encoder",
            EncodePortrait(networks),
            "Encodes a portrait for the renderer. Once a portrait.",
            {"detailed": detailed},
            {"detailed": large} | drawn,
            {"detailed": {2: SIDE, 3: SIDE}},
        ),
        Graph(
            "speech",
            Hear(networks),
            "Hears what is said: rows of sound, 50 a second, all at once or as they come.",
            {"rows": noise(1, 12, 2 * encoder.config.bands)} | dict(zip(states, silence, strict=True)),
            {"rows": "two log-mel spectra a row, see `eat_hf.inputs.audio.speech_mel`"}
            | remembered
            | {"scores": f"of phonemes, of the row {encoder.delay} rows earlier"}
            | {f"{name}_now": "what was heard until now" for name in states},
            {"rows": {1: ROWS}, "scores": {1: ROWS}},
        ),
        Graph(
            "emotion",
            Feel(networks),
            "What emotions do to a face. Once a clip.",
            {"noise": latent, "prediction_map": prediction_map},
            {"noise": "normally distributed numbers", "prediction_map": seen["prediction_map"]} | felt,
        ),
        Graph(
            "expression",
            Speak(networks),
            "What is said becomes expressions, in one emotion. Of a mixture, run it for each; add by weight.",
            {"semantic": noise(around, a2et.semantic_steps, a2et.semantic_widths[0]), "mel": noise(around, a2et.mels)}
            | {"pose_pictures": 255 * noise(around, 64, 64), "angles": angles, "translation": translation}
            | {"prompts": prompts[0], "face": face[0], "deformation": deformation[0]},
            {
                "semantic": f"windows of scores around the frames and {window // 2} before and after; "
                "outside the clip, semantic_padding"
            }
            | {"mel": "how these sound, see `eat_hf.inputs.audio.log_mel`; outside the clip, mel_padding"}
            | {
                "pose_pictures": "of their head poses, see `eat_hf.animation.pose_pictures`; outside the clip, of its "
                "first or last frame"
            }
            | turned
            | {name: f"row of `{name}` that belongs to the emotion" for name in felt}
            | {"expression": "of every frame, three numbers a keypoint, for a face of scale 1"},
            {name: {0: WINDOWED} for name in ("semantic", "mel", "pose_pictures")}
            | {name: {0: FRAMES} for name in (*turned, "expression")},
        ),
        Graph(
            "keypoints",
            Move(networks),
            "Expressions and head poses become keypoints (Eq. 1).",
            {"canonical": points, "scale": noise(1), "expression": noise(count, 3 * keypoints), "angles": angles}
            | {"translation": translation, "blink": noise(count), "gaze": noise(count, 2)},
            {"canonical": seen["canonical"], "scale": "of the portrait"}
            | {"expression": "of `expression`"}
            | turned
            | {"blink": "how far lids are shut, 0 to 1", "gaze": "degrees to the right and up"}
            | {"driving": "keypoints of every frame"},
            {name: {0: FRAMES} for name in ("expression", *turned, "blink", "gaze", "driving")},
        ),
        Graph(
            "renderer",
            Render(networks),
            "Keypoints become frames.",
            {"detailed": detailed, "volume": features.volume, "thumbnail": features.thumbnail, "keypoints": points}
            | {"driving": (points + 0.02 * noise(count, keypoints, 3)), "guidance": prompts[:count, 0]},
            {"detailed": large}
            | drawn
            | {"keypoints": "of the portrait", "driving": "keypoints of every frame"}
            | {"guidance": "the first prompt of every frame's emotion; of a mixture, the weighted sum of them"}
            | {"frames": "RGB"},
            {"detailed": {2: SIDE, 3: SIDE}, "driving": {0: FRAMES}, "guidance": {0: FRAMES}}
            | {"frames": {0: FRAMES, 1: SIDE, 2: SIDE}},
        ),
    ]
