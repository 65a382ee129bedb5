"""The transformer of A2ET and EDN, with deep emotional prompts (paper section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid_positions(count: int, width: int) -> Tensor:
    """(count, width) fixed position codes: sine in even columns, cosine in odd ones."""
    position = torch.arange(count, dtype=torch.float64)[:, None]
    column = torch.arange(width)
    angle = position / 10000 ** (2 * (column // 2) / width).double()
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


class TransformerLayer(nn.Module):
    """Self-attention, optional cross-attention and a feed-forward network, each followed by its norm.

    Args:
        cross: whether the layer also attends to a memory (a decoder layer).
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, cross: bool = False):
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.self_norm = nn.LayerNorm(width)
        if cross:
            self.cross_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
            self.cross_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, feed_forward)
        self.narrow = nn.Linear(feed_forward, width)
        self.output_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.cross = cross

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """tokens (N, T, width), memory (N, M, width) for a decoder layer -> (N, T, width)."""
        attended = self.self_attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = self.self_norm(tokens + self.dropout(attended))
        if self.cross:
            attended = self.cross_attention(tokens, memory, memory, need_weights=False)[0]
            tokens = self.cross_norm(tokens + self.dropout(attended))
        hidden = self.narrow(self.dropout(F.relu(self.widen(tokens))))
        return self.output_norm(tokens + self.dropout(hidden))


class PromptedTransformer(nn.Module):
    """A stack of layers that reads one prompt token beside its input tokens.

    With as many prompts as layers (*deep* prompts), prompt i joins at layer i and replaces what layer i - 1 made of
    the one before. With a single prompt (the *shallow* variant of Table 4) it joins at the first layer and its output
    stays a token. Positions are added once, at the input; so the first prompt gets one and the later ones do not.

    Args:
        cross: build decoder layers and a final norm.
        positions: how many positions are prepared, the most tokens the stack can read.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        layers: int,
        dropout: float,
        cross: bool = False,
        positions: int = 20,
    ):
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, heads, feed_forward, dropout, cross) for _ in range(layers))
        self.norm = nn.LayerNorm(width) if cross else nn.Identity()
        self.positions: Tensor
        self.register_buffer("positions", sinusoid_positions(positions, width), persistent=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor, prompts: Tensor | None = None, memory: Tensor | None = None) -> Tensor:
        """Run the stack.

        Args:
            tokens: (N, T, width).
            prompts: (N, layers, width) deep, (N, 1, width) shallow, or None.
            memory: (N, M, width), what decoder layers attend to.

        Returns:
            (N, T + 1, width), the prompt's output last; (N, T, width) without prompts.
        """
        count = 0 if prompts is None else prompts.shape[1]
        if count not in (0, 1, len(self.layers)):
            raise ValueError(f"A stack of {len(self.layers)} layers takes 1 or that many prompts, not {count}.")
        length = tokens.shape[1]
        for i, layer in enumerate(self.layers):
            if prompts is not None and i < count:
                tokens = torch.cat([tokens[:, :length], prompts[:, i : i + 1]], 1)
            if i == 0:
                tokens = tokens + self.positions[: tokens.shape[1]].to(tokens.dtype)
            tokens = layer(tokens, memory)
        return self.norm(tokens)
