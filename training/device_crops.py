"""Region crops for the pico encoder, made on the device that trains: a thousand a step, of drawings and photographs.

What a crop shows is as in `training.crops_dataset`: a region as the product cuts it out, masked, as its box, or with
its surroundings, at its native size in pixels, by a segmenter whose masks are coarse and whose boxes are a little off.
All draws come from torch's own generators, so that a checkpoint that holds their states goes on where it stopped.

Shapes: icons (n, 4, 112, 112) RGBA with premultiplied colours, scenes (n, 3, 160, 160) RGB, visible parts
(n, 1, 160, 160); all float32 in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.encoder_model import IMAGE_PX

CANVAS_PX = 160
ICON_PX = 112
BACKDROP_PX = 224
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_PARTS = 8  # of a batch, each with a native size and a mask grid of its own
_NATIVE_PX = (14.0, 180.0)  # longest side of a region before it is brought to the encoder's 96 px
_MASK_CELLS = (22, 72)  # of the grid on which a segmenter masks


@dataclass(frozen=True, slots=True)
class Views:
    """How regions are cut: the shares of masked, box and wide crops, the jitter of boxes, and the native size.

    `native_px` None draws it for each part of a batch.
    """

    masked: float
    box: float
    wide: float
    jitter: float = 0.08
    native_px: int | None = None


def uniform(count: int, low: float, high: float, *, like: Tensor) -> Tensor:
    """(count,) even draws on the device of `like`."""
    return torch.rand(count, device=like.device) * (high - low) + low


def sometimes(count: int, chance: float, *, like: Tensor) -> Tensor:
    """(count, 1, 1, 1) bool: true with that chance."""
    return (torch.rand(count, device=like.device) < chance)[:, None, None, None]


def _number(low: float, high: float) -> float:
    """One draw on the host: nothing waits for the device."""
    return low + (high - low) * torch.rand(()).item()


def _integer(low: int, high: int) -> int:
    return int(torch.randint(low, high, ()).item())


def composed(icons: Tensor, neighbours: Tensor, backdrops: Tensor) -> tuple[Tensor, Tensor]:
    """Scenes that show each icon on a backdrop (n, 3, 160, 160), some behind a neighbour; and the icons' visible parts.

    A neighbour that would hide nearly half of its icon is left out.
    """
    count, like = len(icons), icons
    offset = torch.stack([uniform(count, -0.12, 0.12, like=like) for _ in range(2)], dim=1)
    shown = _placed(_varied(icons), uniform(count, 0.75, 1.05, like=like), offset)
    angle, reach = uniform(count, 0, 2 * math.pi, like=like), uniform(count, 0.6, 1.15, like=like)
    beside = torch.stack([reach * angle.cos(), reach * angle.sin()], dim=1)
    other = _placed(_varied(neighbours), uniform(count, 0.7, 1.0, like=like), beside)
    other = other * sometimes(count, 0.35, like=like)
    left = ((shown[:, 3:] * (1 - other[:, 3:])) > 0.5).sum(dim=(1, 2, 3))
    whole = (shown[:, 3:] > 0.5).sum(dim=(1, 2, 3))
    other = other * (left > 0.55 * whole)[:, None, None, None]
    scenes = shown[:, :3] + backdrops * (1 - shown[:, 3:])
    return scenes * (1 - other[:, 3:]) + other[:, :3], shown[:, 3:] * (1 - other[:, 3:])


def _placed(icons: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Icons turned, sheared, stretched and shifted onto canvases (n, 4, 160, 160); `offset` (n, 2) in half canvases."""
    count, like = len(icons), icons
    anyhow = torch.rand(count, device=icons.device) < 0.15
    angle = torch.where(
        anyhow, uniform(count, -math.pi, math.pi, like=like), uniform(count, -math.pi / 6, math.pi / 6, like=like)
    )
    stretch = torch.exp(uniform(count, -0.16, 0.16, like=like))
    shear = uniform(count, -0.18, 0.18, like=like)
    mirrored = torch.where(torch.rand(count, device=icons.device) < 0.5, -1.0, 1.0)
    across, down = scale * ICON_PX / CANVAS_PX * stretch, scale * ICON_PX / CANVAS_PX / stretch
    cosine, sine = angle.cos(), angle.sin()
    first = torch.stack([cosine, sine + shear * cosine], dim=1) * (mirrored / across)[:, None]
    second = torch.stack([-sine, cosine - shear * sine], dim=1) / down[:, None]
    linear = torch.stack([first, second], dim=1)
    moves = -(linear @ offset[:, :, None])  # of where the canvas looks, so against the offset
    grid = functional.affine_grid(
        torch.cat([linear, moves], dim=2), [count, 4, CANVAS_PX, CANVAS_PX], align_corners=False
    )
    return functional.grid_sample(icons, grid, align_corners=False)


def _varied(icons: Tensor) -> Tensor:
    """Icons redrawn: line weight, flatness, colours, shading and outline, each only sometimes."""
    count, like = len(icons), icons
    colours, alpha = icons[:, :3], icons[:, 3:]
    kind = torch.rand(count, device=icons.device)[:, None, None, None]
    colours = torch.where(kind < 0.12, -functional.max_pool2d(-colours, 3, 1, 1), colours)  # thicker dark lines
    colours = torch.where(kind > 0.92, functional.max_pool2d(colours, 3, 1, 1), colours)
    light = (colours * torch.tensor(_LUMA, device=icons.device)[:, None, None]).sum(dim=1, keepdim=True)
    edges = functional.max_pool2d(light, 3, 1, 1) + functional.max_pool2d(-light, 3, 1, 1)
    inked = colours * (1 - uniform(count, 0.3, 1, like=like)[:, None, None, None] * edges.clamp(0, 0.5) * 2)
    colours = torch.where(sometimes(count, 0.2, like=like), inked, colours)
    steps = torch.randint(3, 8, (count, 1, 1, 1), device=icons.device).float()
    colours = torch.where(sometimes(count, 0.15, like=like), (colours * steps).round() / steps, colours)
    colours = torch.where(sometimes(count, 0.85, like=like), _recoloured(colours, strength=1.0), colours)
    colours = torch.where(sometimes(count, 0.35, like=like), colours * _shading(colours), colours)
    return _outlined(torch.minimum(colours.clamp(0, 1), alpha), alpha)


def _recoloured(colours: Tensor, *, strength: float) -> Tensor:
    """Hue turned about the grey axis, saturation and gain; (n, 3, H, W)."""
    count, device, like = len(colours), colours.device, colours
    mostly = torch.rand(count, device=device) < 0.9
    little = torch.randn(count, device=device) * 0.25
    hue = torch.where(mostly, little, uniform(count, -math.pi, math.pi, like=like)) * strength
    spread = torch.exp(torch.randn(count, device=device) * 0.35 * strength)
    saturation = torch.where(torch.rand(count, device=device) < 0.04 * strength, torch.zeros_like(spread), spread)
    one, axis = torch.eye(3, device=device), torch.full((3,), 1 / math.sqrt(3), device=device)
    cross = torch.linalg.cross(one, axis.expand(3, 3))
    cosine, sine = hue.cos()[:, None, None], hue.sin()[:, None, None]
    turned = cosine * one + sine * cross + (1 - cosine) * torch.outer(axis, axis)
    grey = torch.tensor(_LUMA, device=device)[:, None].expand(3, 3)
    kept = saturation[:, None, None] * one + (1 - saturation)[:, None, None] * grey
    shifts = torch.randn(count, 1, device=device) * 0.2 + torch.randn(count, 3, device=device) * 0.1
    matrix = (turned @ kept) * torch.exp(shifts * strength)[:, None, :]
    return torch.einsum("nchw,ncd->ndhw", colours, matrix)


def _shading(icons: Tensor) -> Tensor:
    ramp = torch.linspace(-1, 1, icons.shape[-1], device=icons.device)
    down, across = (uniform(len(icons), -0.3, 0.3, like=icons)[:, None, None] for _ in range(2))
    return (1 + down * ramp[None, :, None] + across * ramp[None, None, :])[:, None]


def _outlined(colours: Tensor, alpha: Tensor) -> Tensor:
    """RGBA, some with a rim of black, nearly black or white."""
    grown = functional.max_pool2d(alpha, 5, 1, 2)
    inks = torch.tensor([0.0, 0.1, 1.0], device=colours.device)
    ink = inks[torch.randint(0, 3, (len(colours),), device=colours.device)][:, None, None, None]
    rimmed = torch.cat([colours + (grown - alpha) * ink, grown], dim=1)
    return torch.where(sometimes(len(colours), 0.2, like=colours), rimmed, torch.cat([colours, alpha], dim=1))


def shown_backdrops(backdrops: Tensor, count: int) -> Tensor:
    """`count` parts of stored backdrops (m, 3, 224, 224) uint8, some in a mirror: (count, 3, 160, 160)."""
    chosen = backdrops[torch.randint(len(backdrops), (count,), device=backdrops.device)].float() / 255
    zoom = uniform(count, 0.4, 1, like=chosen)
    across, down = ((torch.rand(count, device=chosen.device) * 2 - 1) * (1 - zoom) for _ in range(2))
    mirrored = torch.where(torch.rand(count, device=chosen.device) < 0.5, -1.0, 1.0)
    nothing = torch.zeros_like(zoom)
    rows = [torch.stack([zoom * mirrored, nothing, across], 1), torch.stack([nothing, zoom, down], 1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1), [count, 3, CANVAS_PX, CANVAS_PX], align_corners=False)
    return functional.grid_sample(chosen, grid, align_corners=False)


def photographs_shown(rgba: Tensor) -> Tensor:
    """Photographs (n, 4, 160, 160) in [0, 1], half in a mirror, their colours a little changed; alpha is the region."""
    turned = torch.where(sometimes(len(rgba), 0.5, like=rgba), rgba.flip(3), rgba)
    return torch.cat([_recoloured(turned[:, :3], strength=0.35).clamp(0, 1), turned[:, 3:]], dim=1)


def windows(count: int, *, sides: tuple[float, float], off: float, like: Tensor) -> Tensor:
    """Rectangles as visible parts (count, 1, 160, 160): half sides in half canvases, the centre up to `off` away."""
    line = (torch.arange(CANVAS_PX, device=like.device) + 0.5) / CANVAS_PX * 2 - 1
    inside = [
        (line[None] - uniform(count, -off, off, like=like)[:, None]).abs() < uniform(count, *sides, like=like)[:, None]
        for _ in range(2)
    ]
    return (inside[0][:, :, None] & inside[1][:, None, :]).float()[:, None]


def cut(scenes: Tensor, visible: Tensor, views: Views) -> Tensor:
    """Crops (n, 3, 96, 96) of the visible parts, letterboxed as the product does it."""
    parts = torch.arange(len(scenes), device=scenes.device).chunk(_PARTS)
    return torch.cat([_cut_part(scenes[rows], visible[rows], views) for rows in parts])


def _cut_part(scenes: Tensor, visible: Tensor, views: Views) -> Tensor:
    count = len(scenes)
    shares = torch.tensor([views.masked, views.box, views.wide], dtype=torch.float32, device=scenes.device)
    kind = torch.multinomial(shares, count, replacement=True)
    low, high = _jittered(_boxes(visible), margin=(kind == 2).float(), jitter=views.jitter)
    masked = (kind == 0)[:, None, None, None]
    scenes = torch.where(masked, scenes * _segmenter_masks(visible), scenes)
    lowest, highest = (math.log(side) for side in _NATIVE_PX)
    native = views.native_px or int(min(IMAGE_PX, math.exp(_number(lowest, highest))))
    crops = _captured(_sampled(scenes, low, high, native))
    crops = crops * _within(low, high, native)
    if native == IMAGE_PX:
        return crops
    return functional.interpolate(crops, size=(IMAGE_PX,) * 2, mode="bicubic", align_corners=False).clamp(0, 1)


def _boxes(visible: Tensor) -> Tensor:
    """(n, 4) xyxy of the visible parts, in canvas pixels; the whole canvas where nothing is visible."""
    seen = visible[:, 0] > 0.25
    seen = seen | ~seen.any(dim=2).any(dim=1)[:, None, None]
    columns, rows = seen.any(dim=1), seen.any(dim=2)
    first = [line.float().argmax(dim=1) for line in (columns, rows)]
    last = [line.shape[1] - line.flip(1).float().argmax(dim=1) for line in (columns, rows)]
    return torch.stack([*first, *last], dim=1).float()


def _jittered(boxes: Tensor, *, margin: Tensor, jitter: float) -> tuple[Tensor, Tensor]:
    """Two corners (n, 2): out by `margin` of the size, and each side moved by up to ± `jitter` of it."""
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=2)
    moves = (torch.rand(len(boxes), 4, device=boxes.device) * 2 - 1) * jitter * torch.cat([size, size], dim=1)
    outward = size * margin[:, None]
    return boxes[:, :2] - outward + moves[:, :2], boxes[:, 2:] + outward + moves[:, 2:]


def _segmenter_masks(visible: Tensor) -> Tensor:
    """The visible parts as a segmenter would mask them: on a coarse grid, smoothed, cut at a threshold; some exact."""
    count, cells = len(visible), _integer(*_MASK_CELLS)
    coarse = functional.adaptive_avg_pool2d(visible, cells)
    coarse = coarse + torch.randn(coarse.shape, device=visible.device) * 0.1
    smooth = functional.interpolate(coarse, size=visible.shape[2:], mode="bilinear", align_corners=False)
    masks = (smooth > uniform(count, 0.35, 0.6, like=visible)[:, None, None, None]).float()
    exact = sometimes(count, 0.15, like=visible) | (masks.sum(dim=(1, 2, 3), keepdim=True) < 9)
    return torch.where(exact, (visible > 0.5).float(), masks)


def _sampled(scenes: Tensor, low: Tensor, high: Tensor, native: int) -> Tensor:
    """The squares round the boxes, with `native` pixels a side; larger ones are smoothed first."""
    shrunk = float((high - low).amax(dim=1).mean()) / native
    if shrunk > 1.6:
        side = int(min(5, round(shrunk))) | 1
        scenes = functional.avg_pool2d(scenes, side, 1, side // 2, count_include_pad=False)
    return functional.grid_sample(scenes, _places(low, high, native) / CANVAS_PX * 2 - 1, align_corners=False)


def _places(low: Tensor, high: Tensor, native: int) -> Tensor:
    """(n, native, native, 2) xy in canvas pixels of the squares' pixels."""
    line = ((torch.arange(native, device=low.device) + 0.5) / native - 0.5) * (high - low).amax(dim=1)[:, None]
    centre = (low + high) / 2
    across, down = centre[:, :1] + line, centre[:, 1:] + line
    wide = across[:, None, :].expand(-1, native, -1)
    return torch.stack([wide, down[:, :, None].expand_as(wide)], dim=3)


def _within(low: Tensor, high: Tensor, native: int) -> Tensor:
    """(n, 1, native, native) whether a pixel lies in the box and on the canvas; the rest of the letterbox is black."""
    places = _places(low, high, native)
    least, most = low.clamp(min=0)[:, None, None], high.clamp(max=CANVAS_PX)[:, None, None]
    return ((places >= least) & (places < most)).all(dim=3)[:, None]


def _captured(crops: Tensor) -> Tensor:
    """Blur, gain and noise, as photographs go through them."""
    count, like = len(crops), crops
    blurred = functional.avg_pool2d(crops, 3, 1, 1, count_include_pad=False)
    crops = torch.where(sometimes(count, 0.15, like=like), blurred, crops)
    gain = uniform(count, 0.7, 1.25, like=like)[:, None, None, None]
    crops = torch.where(sometimes(count, 0.3, like=like), crops * gain, crops)
    noise = torch.randn(crops.shape, device=crops.device) * uniform(count, 0.01, 0.04, like=like)[:, None, None, None]
    return torch.where(sometimes(count, 0.2, like=like), crops + noise, crops).clamp(0, 1)
