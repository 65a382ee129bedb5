"""`eat-hf convert` and `eat-hf convert-judge`."""

from pathlib import Path
from typing import Annotated

import typer

from .messages import show


def convert(
    checkpoint: Annotated[Path, typer.Option(help="The authors' emotional checkpoint (.pth.tar).")],
    latent_checkpoint: Annotated[Path, typer.Option(help="Their enhanced latent representation (.pth.tar).")],
    pca: Annotated[Path, typer.Option(help="Folder with U_mead.npy and mean_mead.npy.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist or be empty.")],
    deepspeech: Annotated[Path | None, typer.Option(help="Frozen graph of DeepSpeech 0.1.0 (.pb).")] = None,
    padding: Annotated[Path | None, typer.Option(help="pad.npy, what is heard before and after a clip.")] = None,
    template: Annotated[Path | None, typer.Option(help="M003_template.npy, for aligning portraits.")] = None,
) -> None:
    """Turn the authors' release into a folder for the Hub."""
    from ..conversion.official import convert_official

    convert_official(
        checkpoint,
        latent_checkpoint,
        pca,
        deepspeech_graph=deepspeech,
        padding=padding,
        template=template,
        output_dir=output,
    )
    show(output)


def convert_judge(
    kind: Annotated[str, typer.Option(help="syncnet, sync-expert, emotion-fan, inception or vgg19.")],
    checkpoint: Annotated[Path, typer.Option(help="The public checkpoint (.model, .pth, .pth.tar, .safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist or be empty.")],
) -> None:
    """Turn a public network that scores videos into a folder for `evaluate`."""
    from ..conversion.judges import convert_judge as convert

    convert(kind, checkpoint, output)
    show(output)
