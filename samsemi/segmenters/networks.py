"""Small networks by name: KnowSAM's two as published, and every one of segmentation-models-pytorch.

'unet' and 'vnet' are the published ones, which have no weights to start from; 'ARCHITECTURE:ENCODER', such as
'unetplusplus:resnet34', is one of smp.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from samsemi.errors import UsageError
from samsemi.offline import need_network
from samsemi.tensors import first_line

WIDTHS = (16, 32, 64, 128, 256)
"""Channels of both published networks, from the full resolution to a sixteenth of it."""
DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)
DOWN_CONVS, UP_CONVS = (1, 2, 3, 3, 3), (1, 2, 3, 3)
"""Convolutions of the V-Net's stages, by resolution, on the way down and up."""


def double_conv(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """Twice convolution, batch norm, leaky ReLU, with dropout between."""
    first, second = (
        (nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.LeakyReLU())
        for channels in (in_channels, out_channels)
    )
    return nn.Sequential(*first, nn.Dropout(dropout), *second)


class UNet(nn.Module):
    """(B, 3, H, W) -> (B, K, H, W) logits, H and W multiples of 16. Source: KnowSAM, arXiv 2412.13742 and its code."""

    def __init__(self, num_classes: int):
        super().__init__()
        steps = list(zip(WIDTHS, WIDTHS[1:], strict=False))
        self.first = double_conv(3, WIDTHS[0], DROPOUT[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), double_conv(a, b, p)) for (a, b), p in zip(steps, DROPOUT[1:], strict=True)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(steps))
        self.join = nn.ModuleList(double_conv(2 * a, a, 0.0) for a, _ in reversed(steps))
        self.last = nn.Conv2d(WIDTHS[0], num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.first(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        return self.last(x)


def convs(count: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """``count`` times convolution and ReLU."""
    layers = []
    for channels in [in_channels, *[out_channels] * (count - 1)]:
        layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class VNet(nn.Module):
    """(B, 3, H, W) -> (B, K, H, W) logits, H and W multiples of 16: a V-Net in two dimensions, without any normalization.

    Skips are added as they are after the step down, before the convolutions of their stage. Source: KnowSAM, arXiv 2412.13742
    and its code.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        steps = list(zip(WIDTHS, WIDTHS[1:], strict=False))
        self.first = convs(DOWN_CONVS[0], 3, WIDTHS[0])
        self.stages = nn.ModuleList(convs(n, c, c) for n, c in zip(DOWN_CONVS[1:], WIDTHS[1:], strict=True))
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 2, stride=2), nn.ReLU()) for a, b in steps)
        self.up = nn.ModuleList(nn.Sequential(nn.ConvTranspose2d(b, a, 2, stride=2), nn.ReLU()) for a, b in reversed(steps))
        self.join = nn.ModuleList(convs(n, a, a) for n, (a, _) in zip(reversed(UP_CONVS), reversed(steps), strict=True))
        self.last = nn.Conv2d(WIDTHS[0], num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = skip = self.first(x)
        skips = []
        for down, stage in zip(self.down, self.stages, strict=True):
            skips.append(skip)
            skip = down(x)
            x = stage(skip)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(up(x) + skips.pop())
        return self.last(x)


PUBLISHED: dict[str, type[UNet] | type[VNet]] = {"unet": UNet, "vnet": VNet}
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
"""Of an encoder; timm, whose names begin with 'tu-', also takes 'hf-hub:OWNER/NAME', which goes online, and 'local-dir:FOLDER'."""
WITH_DECODER_CHANNELS = ("unet", "unetplusplus", "manet")
"""Architectures of smp whose decoders can be made narrower."""


def build_network(
    name: str, num_classes: int, decoder_channels: Sequence[int], encoder_weights: str | None = None, given: str | None = None
) -> nn.Module:
    """A network by its name; ``decoder_channels`` (five) and ``encoder_weights`` (None or 'imagenet', a download) are for those of smp
    that have them. UsageError, beginning with what was ``given`` by the user, where there is none.
    """
    architecture, _, encoder = name.partition(":")
    given = given or f"--peers {name}"
    if not encoder:
        if architecture in PUBLISHED:
            return PUBLISHED[architecture](num_classes)
        raise UsageError(f"{given}: no such network", f"give {', '.join(PUBLISHED)}, or ARCHITECTURE:ENCODER, as unetplusplus:resnet34")
    check_known("architecture", architecture, sorted(smp.MODEL_ARCHITECTURES_MAPPING), given)
    if not PLAIN_NAME.fullmatch(encoder):
        raise UsageError(
            f"{given:.120}: no name of an encoder", "networks are not fetched from a hub or read from a folder; give weights as a file"
        )
    if encoder_weights:
        need_network(f"--encoder-weights {encoder_weights}", "give --encoder-weights none, or a FILE that was fetched elsewhere")
    decoder = {"decoder_channels": list(decoder_channels)} if architecture in WITH_DECODER_CHANNELS else {}
    try:
        return smp.create_model(architecture, encoder, encoder_weights, in_channels=3, classes=num_classes, **decoder)
    except (ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, KeyError):
            check_known("encoder", encoder, smp.encoders.get_encoder_names(), given)
        raise UsageError(
            f"{given} cannot be used in a {architecture} ({first_line(error)})", "take another encoder, for example resnet34"
        ) from None


def check_known(kind: str, name: str, known: Sequence[str], given: str) -> None:
    """UsageError, with what comes close, for a name that smp does not have."""
    if name not in known:
        close = get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "for example resnet34, mobilenet_v2, efficientnet-b0"
        raise UsageError(f"{given}: segmentation-models-pytorch has no such {kind}", hint)
