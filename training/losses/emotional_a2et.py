"""The frozen A2ET with its emotional adaptation, as stage 2 trains it."""

from torch import Tensor, nn

from eat_hf import A2ET, EDN, EmotionMapper, ExpressionBasis
from eat_hf.models.text_mapper import TextMapper

from ..data.motion import A2ET_INPUTS
from ..loop.options import Batch


class EmotionalA2ET(nn.Module):
    """A frozen A2ET with its emotional adaptation: prompts from M, EDN's deformation, EAMs inside A2ET.

    Args:
        mapper: M, or what makes prompts in its place; only M for `forward`.
        with_edn: False leaves EDN as it is, which adds nothing if it was just initialised from A2ET.
        with_eam: False leaves the EAMs as they are, the identity after stage 1.
    """

    def __init__(
        self,
        a2et: A2ET,
        mapper: EmotionMapper | TextMapper,
        edn: EDN,
        basis: ExpressionBasis,
        with_edn: bool = True,
        with_eam: bool = True,
    ):
        super().__init__()
        self.a2et, self.edn, self.basis, self.with_edn = a2et, edn, basis, with_edn
        self.mapper = mapper
        for name, parameter in self.a2et.named_parameters():
            parameter.requires_grad_(with_eam and "eam" in name)
        edn.requires_grad_(with_edn)

    def train(self, mode: bool = True) -> "EmotionalA2ET":
        """The host's batch-norm statistics and dropout stay as they are at inference, and so does the basis."""
        super().train(mode)
        self.a2et.eval()
        self.basis.eval()
        if not self.with_edn:
            self.edn.eval()
        return self

    def forward(self, batch: Batch, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Expression in units of V ** p, (B, F, 3K), and guidance embedding e (B, width), for latent z (B, 16)."""
        prompts = self.mapper(latent, batch["emotion"]).prompts
        return self.show(batch, prompts), prompts[:, 0]

    def show(self, batch: Batch, prompts: Tensor) -> Tensor:
        """Expression in units of V ** p, (B, F, 3K), for prompts (B, prompts, width)."""
        out = self.a2et(**{name: batch[name] for name in A2ET_INPUTS}, prompts=prompts)
        deformation = self.edn(out.face_features, prompts).expression
        return self.basis(out.coefficients) + deformation[:, None]
