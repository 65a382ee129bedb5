"""Pack a corpus of very many files into a few large ones, as file systems of clusters want it.

    python -m training.data.pack --corpus corpus --output corpus_packed

The tar files have WebDataset's layout (all files of a clip side by side, uncompressed, called as the clip), so that
`webdataset` and `datasets.load_dataset("webdataset", ...)` stream them. Training goes on reading clips in any order,
which an exact resume needs: metadata.jsonl of the packed corpus says where in which tar each file lies.
"""

import json
import shutil
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eat_hf.errors import UserError
from eat_hf.media.files import whole_file, write_atomically

from ..loop.command_line import parse_options, run_script
from .dataset import Clip, Corpus

FILES = ("file_name", "wav", "portrait", "labels")  # of a clip


@dataclass
class PackOptions:
    """Options."""

    corpus: str = field(default="corpus", metadata={"help": "Folder of the corpus."})
    output: str = field(default="corpus_packed", metadata={"help": "New folder, which --corpus of all stages takes."})
    megabytes: int = field(default=1000, metadata={"help": "Of a tar file; clips are never split."})


def pack(corpus: Corpus, output: Path, most: int) -> int:
    """Write the packed corpus; its metadata comes last, so what was interrupted is no corpus.

    Args:
        most: bytes of a tar file; a clip that alone has more is a file of its own.

    Returns:
        How many tar files there are.
    """
    output.mkdir(parents=True, exist_ok=True)
    shards: list[list[Clip]] = []
    filled = most
    for clip in corpus.clips():
        size = sum((clip.folder / clip.metadata[kind]).stat().st_size for kind in FILES if clip.metadata.get(kind))
        if filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(clip)
        filled += size
    lines = []
    for number, clips in enumerate(tqdm(shards, "pack", disable=None)):
        name = f"{number:06d}.tar"
        # files themselves: of a link nothing but its name would be kept
        options: Any = {"format": tarfile.USTAR_FORMAT, "dereference": True}
        with whole_file(output / name) as part, tarfile.open(part, "w", **options) as tar:
            for clip in clips:
                packed = {}
                for kind in FILES:
                    if path := clip.metadata.get(kind):
                        start = tar.offset  # of the header; the content follows
                        tar.add(clip.folder / path, f"{clip.name}{Path(path).suffix}")
                        packed[path] = (name, start + tarfile.BLOCKSIZE, (clip.folder / path).stat().st_size)
                lines.append(json.dumps({**clip.metadata, "packed": packed}, ensure_ascii=False))
    shutil.copy(corpus.folder / "corpus.json", output / "corpus.json")
    write_atomically(output / "metadata.jsonl", "".join(f"{line}\n" for line in lines))
    return len(shards)


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(PackOptions, "pack", sys.argv[1:] if argv is None else argv)
    corpus, output = Corpus(options.corpus), Path(options.output)
    if output.resolve() == corpus.folder.resolve():
        raise UserError("--output is a new folder, not that of the corpus.")
    count = pack(corpus, output, options.megabytes * 1_000_000)
    print(f"{output}: {len(corpus)} clips in {count} tar files")


if __name__ == "__main__":
    run_script(main)
