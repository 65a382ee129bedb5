"""From what was measured on every clip to the numbers of a report, by each protocol's rule."""

from collections.abc import Sequence

import numpy as np

from ..models.parameters import ParameterShare
from .judges.networks import DescribedJudges, Settings
from .metrics.emotion_accuracy import confusion_matrix
from .metrics.frechet import frechet_distance
from .metrics.synchrony import RADIUS
from .report.results import (
    GROUND_TRUTH,
    ClipResult,
    EmotionScores,
    MethodResults,
    MetricValue,
    ProtocolResults,
    RejectedClip,
    SyncCurve,
    Tuning,
)
from .scoring import PairScores, VideoScores


def _mean_over_clips(values: Sequence[float], note: str = "") -> MetricValue:
    known = [value for value in values if not np.isnan(value)]
    return MetricValue(float(np.mean(known)) if known else None, len(known), note)


def _sync_metrics(videos: Sequence[VideoScores], protocol: str) -> tuple[dict[str, MetricValue], SyncCurve | None]:
    found = [video.synchrony[protocol] for video in videos if protocol in video.synchrony]
    note = "" if len(found) == len(videos) else f"{len(videos) - len(found)} clips without sound"
    metrics = {
        "sync_confidence": _mean_over_clips([s.confidence for s in found], note),
        "sync_distance": _mean_over_clips([s.distance for s in found], note),
        "sync_offset": _mean_over_clips([float(s.offset) for s in found], note),
    }
    if not found:
        return metrics, None
    mean = np.mean([s.curve for s in found], 0)
    # `offset` counts lips behind sound, the curve sound behind lips
    return metrics, SyncCurve(tuple(range(RADIUS, -RADIUS - 1, -1)), tuple(float(d) for d in mean))


def _emotions(asked: Sequence[str], seen: Sequence[str], classes: tuple[str, ...]) -> EmotionScores | None:
    pairs = [(a, s) for a, s in zip(asked, seen, strict=True) if a in classes and s]
    if not pairs:
        return None
    confusion = confusion_matrix([a for a, _ in pairs], [s for _, s in pairs], classes)
    return EmotionScores(classes, tuple(map(tuple, confusion.tolist())))


def _alone(
    videos: Sequence[VideoScores], asked: Sequence[str], protocol: str, settings: Settings, judges: DescribedJudges
) -> tuple[dict[str, MetricValue], SyncCurve | None]:
    """Metrics that need no partner, which the ground truth has, too."""
    metrics: dict[str, MetricValue] = {}
    curve = None
    if settings.syncnet is not None:
        sync, curve = _sync_metrics(videos, protocol)
        metrics |= sync
    if judges.classes:
        scores = _emotions(asked, [video.emotion for video in videos], judges.classes)
        metrics["acc_emo"] = (
            MetricValue(None, 0, "no clip is labelled with an emotion; see labels.csv")
            if scores is None
            else MetricValue(scores.accuracy, scores.clips)
        )
    for key in ("border_jitter", "landmark_jitter"):
        metrics[key] = _mean_over_clips([video.jitter[key] for video in videos])
    return metrics, curve


def _clip_result(score: PairScores, video: VideoScores, protocols: Sequence[str], paired: bool) -> ClipResult:
    values: dict[str, dict[str, float | None]] = {}
    for protocol in protocols:
        values[protocol] = dict(video.jitter)
        if protocol in video.synchrony:
            s = video.synchrony[protocol]
            values[protocol] |= {
                "sync_confidence": s.confidence,
                "sync_distance": s.distance,
                "sync_offset": float(s.offset),
            }
        if paired:
            rows = score.per_frame[protocol].items()
            values[protocol] |= {key: float(row.mean()) if len(row) else None for key, row in rows}
    return ClipResult(score.name, score.emotion, values, video.frames, video.without_face, video.emotion)


def average_ground_truth(scores: Sequence[PairScores], settings: Settings, judges: DescribedJudges) -> MethodResults:
    """What the real videos of all pairs score by themselves."""
    videos, asked = [s.reference for s in scores], [s.emotion for s in scores]
    return MethodResults(
        name=GROUND_TRUTH,
        protocols={p: ProtocolResults(*_alone(videos, asked, p, settings, judges)) for p in settings.protocols},
        clips=tuple(_clip_result(s, s.reference, settings.protocols, paired=False) for s in scores),
        emotions=_emotions(asked, [video.emotion for video in videos], judges.classes),
        ground_truth=None,
    )


def average_method(
    name: str,
    scores: Sequence[PairScores],
    rejected: Sequence[RejectedClip],
    settings: Settings,
    judges: DescribedJudges,
    parameters: tuple[ParameterShare, ...],
    tuning: Tuning | None,
) -> MethodResults:
    """What a method's videos score, held against the real ones, over all pairs."""
    videos, asked = [s.generated for s in scores], [s.emotion for s in scores]
    protocols = {}
    for protocol in settings.protocols:
        metrics, curve = _alone(videos, asked, protocol, settings, judges)
        for key in scores[0].per_frame[protocol]:
            rows = [s.per_frame[protocol][key] for s in scores]
            if protocol == "eat_official" and key in ("psnr", "ssim"):  # all frames pooled, as published
                metrics[key] = MetricValue(float(np.concatenate(rows).mean()), len(rows))
            else:
                metrics[key] = _mean_over_clips([row.mean() if len(row) else float("nan") for row in rows])
        if protocol in judges.distances:
            mine, real = (
                np.concatenate([getattr(s, side).features[protocol] for s in scores])
                for side in ("generated", "reference")
            )
            metrics[judges.distances[protocol]] = MetricValue(frechet_distance(mine, real), len(scores))
        protocols[protocol] = ProtocolResults(metrics, curve)
    return MethodResults(
        name=name,
        protocols=protocols,
        clips=tuple(_clip_result(s, s.generated, settings.protocols, paired=True) for s in scores),
        rejected=tuple(rejected),
        emotions=_emotions(asked, [video.emotion for video in videos], judges.classes),
        parameters=parameters,
        tuning=tuning,
    )
