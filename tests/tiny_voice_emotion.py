"""A tiny classifier of transformers that hears low voices as sad, high ones as happy and others as neutral."""

import functools
from pathlib import Path

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

PITCHES = {"sad": (80, 110), "neu": (170, 210), "hap": (320, 400)}  # Hz


def hum(kind: str, seconds: float, seed: int = 0) -> np.ndarray:
    """A voice without words, (N,) at 16 kHz: "sad", "neu" or "hap"."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    pitch = rng.uniform(*PITCHES[kind]) * (1 + 0.02 * np.sin(2 * np.pi * 5 * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    sound = sum(np.sin(k * phase) / k for k in range(1, 9)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))
    return (0.1 * sound + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


@functools.cache
def tiny_classifier() -> Wav2Vec2ForSequenceClassification:
    """Random, but for its last layer, which is fitted to hums."""
    torch.manual_seed(0)
    labels = dict(enumerate(PITCHES))
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, classifier_proj_size=32, id2label=labels,
        label2id={name: number for number, name in labels.items()},
    )  # fmt: skip
    model = Wav2Vec2ForSequenceClassification(config).eval()
    kinds = np.repeat(list(PITCHES), 40)
    sounds = Wav2Vec2FeatureExtractor()([hum(kind, 0.6, n) for n, kind in enumerate(kinds)], sampling_rate=16000)
    with torch.no_grad():
        hidden = model.wav2vec2(torch.tensor(np.stack(sounds.input_values))).last_hidden_state
        pooled = model.projector(hidden).mean(1)
        mean, deviation = pooled.mean(0), pooled.std(0) + 1e-6
        wanted = torch.tensor([[8.0 * (kind == name) - 4 for name in PITCHES] for kind in kinds])
        x = torch.cat([(pooled - mean) / deviation, torch.ones(len(pooled), 1)], 1)
        solved = torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1]), x.T @ wanted)
        model.classifier.weight.copy_((solved[:-1] / deviation[:, None]).T)
        model.classifier.bias.copy_(solved[-1] - mean / deviation @ solved[:-1])
    return model


def save_classifier(folder: Path) -> Path:
    """A folder as people of the Hub have it."""
    tiny_classifier().save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
