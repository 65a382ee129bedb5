"""The transformer of A2ET and EDN, with deep emotional prompts (paper section 3.2)."""

import torch
from torch import Tensor, nn

from .layers import CheckpointedBlocks

# attention reads the weights of its own last layer, so these are moved as a whole
WHOLE = ("TransformerEncoderLayer", "TransformerDecoderLayer")


def sinusoid_positions(count: int, width: int) -> Tensor:
    """(count, width) fixed position codes: sine in even columns, cosine in odd ones."""
    position = torch.arange(count, dtype=torch.float64)[:, None]
    column = torch.arange(width)
    angle = position / 10000 ** (2 * (column // 2) / width).double()
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


class PromptedTransformer(CheckpointedBlocks):
    """A stack of layers that reads one prompt token beside its input tokens.

    The layers are torch's, self-attention, cross-attention in a decoder, and a feed-forward network, each followed by
    its norm.

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
        layer = nn.TransformerDecoderLayer if cross else nn.TransformerEncoderLayer
        self.layers = nn.ModuleList(layer(width, heads, feed_forward, dropout, batch_first=True) for _ in range(layers))
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
            tokens = self._run(layer, tokens) if memory is None else self._run(layer, tokens, memory)
        return self.norm(tokens)
