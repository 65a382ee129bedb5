"""What was measured, by groups of people.

Who the people of the corpus are is known exactly, since they were made from numbers: nobody has to guess from pictures.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from eat_hf.evaluation.report.results import MethodResults

from ..corpus.heads import Identity
from ..corpus.looks import DARK_SKIN, LIGHT_SKIN, MIDDLE_SKIN

COLUMNS = {"psnr": "PSNR (dB) ↑", "m_lmd": "M-LMD (px) ↓", "sync_confidence": "Sync confidence ↑", "csim": "Identity ↑"}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
YOUNG, OLD = 0.3, 0.6  # of the age of a head, 0 to 1
CHANCE = (
    "A group has few people, whose faces differ in more than what names it: differences that one person makes are "
    "chance. The judges are those of the tables above."
)


def groups_of(person: Identity) -> list[str]:
    """The groups that a person belongs to, one of each kind."""
    light, middle, dark = (LUMINANCE @ skin for skin in (LIGHT_SKIN, MIDDLE_SKIN, DARK_SKIN))
    tone, age = LUMINANCE @ np.array(person.look.tone), person.attributes["age"]
    return [
        "skin: light"
        if tone > (light + middle) / 2
        else "skin: middle"
        if tone > (middle + dark) / 2
        else "skin: dark",
        "age: young" if age < YOUNG else "age: middle" if age < OLD else "age: old",
        "women" if person.attributes["female"] > 0.5 else "men",
        "glasses" if person.look.glasses else "no glasses",
        "beard" if person.look.beard else "no beard",
    ]


def group_table(
    method: MethodResults, protocol: str, person_of: Mapping[str, int], groups: Mapping[int, Sequence[str]]
):
    """Markdown: a row for each group.

    Args:
        method: with its clips.
        person_of: identity of each clip, by the clip's name.
        groups: of each identity, see `groups_of`.
    """
    rows = []
    for group in sorted({name for names in groups.values() for name in names}):
        clips = [clip for clip in method.clips if group in groups[person_of[clip.name]]]
        if not clips:
            continue
        cells = [group, str(len({person_of[clip.name] for clip in clips})), str(len(clips))]
        for key in COLUMNS:
            values = [value for clip in clips if (value := clip.values.get(protocol, {}).get(key)) is not None]
            cells.append(f"{fmean(values):.3g}" if values else "–")
        judged = [clip.predicted_emotion == clip.emotion for clip in clips if clip.predicted_emotion]
        cells.append(f"{100 * fmean(judged):.0f}" if judged else "–")
        rows.append("| " + " | ".join(cells) + " |")
    names = ["group", "people", "clips", *COLUMNS.values(), "Emotion accuracy (%) ↑"]
    head = "| " + " | ".join(names) + " |\n|:--|" + "--:|" * (len(names) - 1)
    return "\n".join([head, *rows])
