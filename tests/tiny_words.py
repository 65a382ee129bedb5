"""A tiny CLIP and a text mapper that know nothing, for a tiny model."""

import json
from pathlib import Path

import torch
from conftest import WIDTH
from transformers import CLIPImageProcessorPil

from eat_hf import EATPipeline
from eat_hf.adapters.clip import CLIP
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.adapters.from_text import TextToEmotion
from eat_hf.models.text_mapper import TextMapper
from training.text.train_clip import make_clip, make_tokenizer

SIZES = {
    "projection_dim": 8,
    "text": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "vision": {
        "image_size": 32, "patch_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
}  # fmt: skip


def make_tiny_clip() -> CLIP:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(0, 560, 1000)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    model = make_clip(SIZES, tokenizer).eval()
    for name, parameter in model.named_parameters():  # a fresh one embeds all pictures alike
        if "layer" in name or "projection" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return CLIP("tiny", model, tokenizer, json.loads(processor.to_json_string()))


def add_words(folder: Path, clip: CLIP) -> None:
    """Give the tiny model in `folder` words."""
    pipe = EATPipeline.from_pretrained(folder)
    torch.manual_seed(1)
    prompts = pipe.emotion_mapper.config.prompts
    mapper = TextMapper(embedding=8, hidden=16, prompts=prompts, width=WIDTH, depth=2)
    torch.nn.init.normal_(mapper.layers[-1].weight, std=0.5)
    shows = EmotionAdapter.create(pipe.base, ["words"], "neutral")
    with torch.no_grad():
        for name, part in shows.parts.items():
            if "eam" in name:
                part.expand.weight.normal_(0, 0.3)
    TextToEmotion(clip, mapper, shows).save(folder / "words")
