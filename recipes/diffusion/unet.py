"""The improved U-Net of Dhariwal and Nichol (2021, arXiv:2105.05233, ADM), by diffusers.

Residual blocks that scale and shift by the time step's embedding, BigGAN's residual blocks to halve and double the
resolution, attention at chosen resolutions in the middle.
"""

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from recipes.errors import ConfigError
from recipes.settings.arguments import is_count, is_number


def image_unet(
    *,
    size: int,
    image_channels: int,
    channels: Sequence[int],
    blocks: int,
    attention: Sequence[int] = (),
    head_width: int = 64,
    norm_groups: int = 32,
    dropout: float = 0.0,
    classes: int | None = None,
) -> nn.Module:
    """UNet2DModel: model(z [B, C, size, size], t [B], class_labels [B]).sample is of z's shape.

    Args:
        size: height and width in pixels.
        image_channels: of what goes in and what comes out.
        channels: of each level; each next level has half the resolution.
        blocks: residual blocks a level, one more on the way up.
        attention: resolutions, in pixels, with self-attention after every block; the middle has it where any has.
        head_width: channels of an attention head.
        norm_groups: of the group normalisations.
        dropout: in the residual blocks.
        classes: number of classes of a class-conditional model, None for one that is not.

    Raises:
        ConfigError: sizes do not fit each other.
    """
    _check(size, image_channels, channels, attention, head_width, norm_groups, dropout)
    if not is_count(blocks):
        raise ConfigError(f"model.args.unet.blocks={blocks} must be a whole number of at least 1")
    if not (classes is None or is_count(classes)):
        raise ConfigError(f"model.args.unet.classes={classes} must be a whole number of at least 1, or null")
    levels = [size >> level for level in range(len(channels))]
    kinds = ["Attn{}Block2D" if side in attention else "Resnet{}sampleBlock2D" for side in levels]
    return _unet_class("UNet2DModel")(
        sample_size=size,
        in_channels=image_channels,
        out_channels=image_channels,
        block_out_channels=tuple(channels),
        layers_per_block=blocks,
        down_block_types=tuple(kind.format("Down") for kind in kinds),
        up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=norm_groups,
        attn_norm_num_groups=norm_groups,
        attention_head_dim=head_width,
        add_attention=bool(attention),
        dropout=dropout,
        num_class_embeds=classes,
    )


def text_unet(
    *,
    size: int,
    image_channels: int,
    channels: Sequence[int],
    blocks: int | Sequence[int],
    attention: Sequence[int],
    text_width: int,
    condition_channels: int = 0,
    cross_width: int | None = None,
    head_width: int = 64,
    norm_groups: int = 32,
    dropout: float = 0.0,
    eager_attention: bool = False,
) -> nn.Module:
    """UNet2DConditionModel: model(z, t, encoder_hidden_states [B, L, text_width], encoder_attention_mask).sample.

    The text's states stand among the keys and values of the image's self-attention, as in Imagen.

    Args:
        size: height and width in pixels.
        image_channels: of what comes out.
        channels: of each level; each next level has half the resolution.
        blocks: residual blocks a level, one for all or each its own.
        attention: resolutions, in pixels, with attention to image and text; the middle has it too.
        text_width: of the frozen text encoder's states.
        condition_channels: further channels of what goes in, such as a picture of lower resolution.
        cross_width: that the states are projected to first; None leaves them.
        head_width: channels of an attention head.
        norm_groups: of the group normalisations.
        dropout: in the residual blocks.
        eager_attention: by matrix products and softmax, which on a CPU are faster for small images than PyTorch's fused
            attention; the result is the same but for rounding.

    Raises:
        ConfigError: sizes do not fit each other.
    """
    _check(size, image_channels, channels, attention, head_width, norm_groups, dropout)
    if not attention:
        raise ConfigError("model.args.unet.attention is empty: nothing would read the text")
    blocks_of_level = list(blocks) if isinstance(blocks, Sequence) else [blocks] * len(channels)
    if invalid := [number for number in blocks_of_level if not is_count(number)]:
        raise ConfigError(f"model.args.unet.blocks has {invalid[0]}, expected whole numbers of at least 1")
    if len(blocks_of_level) != len(channels):
        raise ConfigError(f"model.args.unet.blocks has {len(blocks_of_level)} levels and channels {len(channels)}")
    for name, width in {"text_width": text_width, "cross_width": cross_width or text_width}.items():
        if not is_count(width):
            raise ConfigError(f"model.args.unet.{name}={width} must be a whole number of at least 1")
    levels = [size >> level for level in range(len(channels))]
    kinds = ["SimpleCrossAttn{}Block2D" if side in attention else "Resnet{}sampleBlock2D" for side in levels]
    model: nn.Module = _unet_class("UNet2DConditionModel")(
        sample_size=size,
        in_channels=image_channels + condition_channels,
        out_channels=image_channels,
        block_out_channels=tuple(channels),
        layers_per_block=tuple(blocks_of_level),
        down_block_types=tuple(kind.format("Down") for kind in kinds),
        up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=norm_groups,
        cross_attention_dim=cross_width or text_width,
        encoder_hid_dim=text_width if cross_width else None,
        attention_head_dim=head_width,
        dropout=dropout,
    )
    if eager_attention:
        from diffusers.models.attention_processor import AttnAddedKVProcessor

        model.set_attn_processor(AttnAddedKVProcessor())  # type: ignore[operator]
    return model


def _check(
    size: int,
    image_channels: int,
    channels: Sequence[int],
    attention: Sequence[int],
    head_width: int,
    norm_groups: int,
    dropout: float,
) -> None:
    counts = {"size": size, "image_channels": image_channels, "head_width": head_width, "norm_groups": norm_groups}
    for name, value in counts.items():
        if not is_count(value):
            raise ConfigError(f"model.args.unet.{name}={value} must be a whole number of at least 1")
    if not isinstance(channels, Sequence) or not channels or not all(map(is_count, channels)):
        raise ConfigError(f"model.args.unet.channels={channels} must be a list with the channels of each level")
    if not isinstance(attention, Sequence):
        raise ConfigError(f"model.args.unet.attention={attention} must be a list of resolutions, [] for none")
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ConfigError(f"model.args.unet.dropout={dropout} must be at least 0 and below 1")
    if size % 2 ** (len(channels) - 1):
        raise ConfigError(f"model.args.unet.size={size} cannot be halved {len(channels) - 1} times without a rest")
    levels = [size >> level for level in range(len(channels))]
    if invalid := [side for side in attention if side not in levels]:
        raise ConfigError(
            f"model.args.unet.attention has {invalid[0]}, and the levels' resolutions are {', '.join(map(str, levels))}"
        )
    if invalid := [width for width in channels if width % norm_groups]:
        raise ConfigError(f"model.args.unet.channels has {invalid[0]}, which norm_groups={norm_groups} does not divide")
    # Attention is at the resolutions asked for and, where there is any, in the middle.
    attending = [w for side, w in zip(levels, channels, strict=True) if side in attention]
    attending += [channels[-1]] if attention else []
    if invalid := [width for width in attending if width % head_width]:
        raise ConfigError(
            f"model.args.unet.head_width={head_width} does not divide the {invalid[0]} channels that attend"
        )


def _unet_class(name: str) -> Any:
    # diffusers imports whatever quantisation libraries it finds; one of them warns of kernels that nothing here uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import diffusers

    return getattr(diffusers, name)
