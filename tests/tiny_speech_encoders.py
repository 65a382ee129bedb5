"""Tiny, random speech networks of transformers, saved as people of the Hub have them."""

from pathlib import Path

import torch
from transformers import (
    HubertConfig,
    HubertForCTC,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")
_SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "vocab_size": 8,
}  # fmt: skip


def save_speech_network(family: str, folder: Path) -> Path:
    """Each 16 wide, with two layers."""
    torch.manual_seed(0)
    if family == "wav2vec2":
        network = Wav2Vec2Model(Wav2Vec2Config(**_SIZES))
    elif family == "hubert":
        network = HubertForCTC(HubertConfig(**_SIZES))
    elif family == "wavlm":
        network = WavLMModel(WavLMConfig(**_SIZES))
    else:
        network = WhisperForConditionalGeneration(
            WhisperConfig(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
                          decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=8, max_source_positions=100,
                          pad_token_id=1, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3)
        )  # fmt: skip
    network.save_pretrained(folder)
    if family != "whisper":
        Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
