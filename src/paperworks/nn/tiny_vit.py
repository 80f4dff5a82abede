"""A small vision transformer."""

from __future__ import annotations

import torch
from torch import nn

from paperworks.nn.saving import SavedNetwork, require


class TinyViT(SavedNetwork):
    """A vision transformer (Dosovitskiy et al. 2021) of small size, with pre-normalised blocks.

    ::

        pixel_values [n, channels, S, S]
              |  patches: conv P x P, stride P        [n, (S/P)^2, width]
              |  class token in front, + positions    [n, 1 + (S/P)^2, width]
              |  layers *:  x + attention(norm(x)),  x + Linear(GELU(Linear(norm(x))))    feed-forward width 4 * width
              v
        norm -> class token -> Linear -> logits [n, outputs]

    Parameters
    ----------
    image_size, patch_size : side of the square images and of their patches, in pixels.
    channels : of the images.
    width, layers, heads : of the transformer.
    outputs : logits.
    dropout : share dropped in training, in attention and after each part.

    Examples
    --------
    >>> TinyViT(image_size=16, patch_size=4, channels=3, width=32, outputs=5)(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        *,
        image_size: int = 28,
        patch_size: int = 4,
        channels: int = 1,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        outputs: int = 10,
        dropout: float = 0.0,
    ) -> None:
        sizes = {
            "image_size": image_size,
            "patch_size": patch_size,
            "channels": channels,
            "width": width,
            "layers": layers,
            "heads": heads,
            "outputs": outputs,
        }
        super().__init__(**sizes, dropout=dropout)
        for name, value in sizes.items():
            require(name, value, value >= 1, "1 or more")
        require("patch_size", patch_size, image_size % patch_size == 0, f"a divisor of image_size {image_size}")
        require("heads", heads, width % heads == 0, f"a divisor of the width {width}")
        require("dropout", dropout, 0 <= dropout < 1, "a share from 0 to below 1")
        self.patches = nn.Conv2d(channels, width, patch_size, patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (image_size // patch_size) ** 2, width))
        self.blocks = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """First values of the class token and the positions, which no layer draws."""
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, outputs]`` of images float ``[n, channels, S, S]``."""
        return self.head(self.features(pixel_values))

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The class token after the last norm, float ``[n, width]``."""
        size = self.config["image_size"]
        require(
            "pixel_values",
            tuple(pixel_values.shape),
            pixel_values.shape[-2:] == (size, size),
            f"images of {size} x {size} pixels",
        )
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]
