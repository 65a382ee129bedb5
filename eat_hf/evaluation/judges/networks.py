"""The networks that judge videos: which ones, where from, and what a report says of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from diffusers import ModelMixin

from ...errors import UserError
from ...hub.client import quiet
from ...models.checked import load_network
from ...models.judges.emotion_fan import EmotionFAN
from ...models.judges.syncnet import SyncNet
from ...shipped import shipped_checkpoint
from ..report.results import Judge
from .backbones import Backbone, fid_name, load_backbone

Network = TypeVar("Network", bound=ModelMixin)

SAMPLED_FRAMES = 5  # a clip, evenly spaced, for the distance of distributions and the perceptual distance
DESCRIBED_FRAMES = 3  # for dlib's descriptors, which take a tenth of a second each
BUNDLED_JUDGES = "eat-judges"


@dataclass(frozen=True)
class Settings:
    """Which networks judge, and by which rules.

    Attributes:
        protocols: "eat_official", "standard" or both.
        syncnet, emotion_judge: folders or Hub ids; None leaves the metric out.
        backbones: by protocol, whose features the distance of distributions compares, as `load_backbone` reads it;
            a protocol without one leaves the metric out.
        perceptual: likewise; None leaves the metric out.
        device: of torch.
    """

    protocols: tuple[str, ...]
    syncnet: str | None
    emotion_judge: str | None
    backbones: dict[str, str]
    perceptual: str | None
    device: str = "cpu"


class Judges:
    """The networks of `Settings`, loaded when first asked for."""

    def __init__(self, settings: Settings):
        self.settings = settings

    @cached_property
    def syncnet(self) -> SyncNet | None:
        return load_judge(SyncNet, self.settings.syncnet, self.settings.device)

    @cached_property
    def emotion(self) -> EmotionFAN | None:
        return load_judge(EmotionFAN, self.settings.emotion_judge, self.settings.device)

    @cached_property
    def backbones(self) -> dict[str, Backbone]:
        loaded = {spec: load_backbone(spec, self.settings.device, "fid") for spec in self.settings.backbones.values()}
        return {protocol: loaded[spec] for protocol, spec in self.settings.backbones.items()}

    @cached_property
    def perceptual(self) -> Backbone | None:
        spec = self.settings.perceptual
        return load_backbone(spec, self.settings.device, "perceptual") if spec else None


def load_judge(network: type[Network], place: str | None, device: str = "cpu") -> Network | None:
    """A network ready to judge, of a folder or of the Hub; None for None.

    Args:
        network: its class, such as `SyncNet`.

    Raises:
        UserError: it cannot be loaded.
    """
    if place is None:
        return None
    with quiet():
        return load_network(network, place).to(device)


def sampled_frames(backbone: Backbone) -> int:
    """How many frames of a clip the distance of distributions takes."""
    return DESCRIBED_FRAMES if backbone.name == "dlib_resnet" else SAMPLED_FRAMES


def bundled_judge(judge: str) -> str:
    """Folder of "syncnet" or "emotion_fan" as they ship with the project.

    Raises:
        UserError: they were not shipped along.
    """
    judges = shipped_checkpoint(BUNDLED_JUDGES)
    if judges is not None and (judges / judge / "config.json").is_file():
        return str(judges / judge)
    raise UserError(f"The bundled judge {judge} was not found; name a folder or Hub id of your own.")


@dataclass(frozen=True)
class DescribedJudges:
    """What a report says of the networks that judged.

    Attributes:
        described: by role, a key of `ROLES`.
        classes: the emotions that the emotion judge tells apart; none without one.
        distances: by protocol, the key of the distance of distributions.
        notes: sentences that a reader must know before the numbers.
    """

    described: dict[str, Judge]
    classes: tuple[str, ...]
    distances: dict[str, str]
    notes: tuple[str, ...]


def describe_judges(settings: Settings) -> DescribedJudges:
    """Load every network once, and say what it is.

    Raises:
        UserError: one cannot be loaded.
    """
    judges = Judges(settings)
    described = {
        "faces": Judge("dlib HOG and 68 landmarks", "face_recognition_models"),
        "identity": Judge("dlib_resnet", "face_recognition_models", False, "papers use ArcFace or the like"),
    }
    notes = []
    trained_here = "trained on the synthetic corpus of this project; compare within this report only"
    for role, network, place in (
        ("synchrony", judges.syncnet, settings.syncnet),
        ("emotion", judges.emotion, settings.emotion_judge),
    ):
        if network is not None and place is not None:
            bundled = BUNDLED_JUDGES in Path(place).parts
            source = f"{BUNDLED_JUDGES}/{Path(place).name}" if bundled else place
            described[role] = Judge(type(network).__name__, source, not bundled, trained_here if bundled else "")
    if not all(judge.standard for role, judge in described.items() if role in ("synchrony", "emotion")):
        notes.append(
            "Lip-sync and emotion are judged by small networks trained on synthetic faces and voices: hold these "
            "scores against the ground truth beside them, not against those of papers."
        )
    distances = {protocol: fid_name(backbone).lower() for protocol, backbone in judges.backbones.items()}
    if distances:
        used = {backbone.name: backbone for backbone in judges.backbones.values()}.values()
        described["features"] = Judge(
            " / ".join(backbone.name for backbone in used),
            " / ".join(backbone.source for backbone in used),
            all(backbone.standard for backbone in used),
        )
        frames = " / ".join(str(count) for count in sorted({sampled_frames(backbone) for backbone in used}))
        notes.append(
            f"The distance of distributions is taken over {frames} frames a clip; it grows as clips get fewer."
        )
    if judges.perceptual is not None:
        described["perceptual"] = Judge(judges.perceptual.name, judges.perceptual.source, judges.perceptual.standard)
    classes = tuple(judges.emotion.config.classes) if judges.emotion is not None else ()
    return DescribedJudges(described, classes, distances, tuple(notes))
