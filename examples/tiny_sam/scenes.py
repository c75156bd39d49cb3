"""Procedural scenes with object masks: what the tiny SAM is trained on instead of patient images.

`draw_scene(rng, size)` gives an image (H, W, 3) uint8 and the masks (N, H, W) bool of the things in it. A scene takes the looks of one
of a few imaging styles (endoscopy, dermoscopy, stained cells, fluorescence, CT, chest X-ray, ultrasound, or colors at random). Coordinates
are in units of half the image side, x to the right and y down, both from -1 to 1. A shape is a field (H, W) float32, negative inside.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

MAX_OBJECTS = 8  # masks of a scene
MIN_AREA_PX = 30
LEAST_VISIBILITY = 0.6  # standard deviations; things below it get no mask
POOL_SEED = 20261121
POOL_SIDE = 320  # px; a texture crop of the scene's size is taken at a random place


# --- textures ---------------------------------------------------------------------------------------------------------------------------


def spectral_noise(rng, side: int, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Noise (side, side) whose amplitude falls as frequency^-slope; stretch > 1 draws it out along x. Zero mean, unit deviation."""
    fy = np.fft.fftfreq(side)[:, None]
    fx = np.fft.rfftfreq(side)[None, :] * stretch
    freq = np.sqrt(fx**2 + fy**2)
    freq[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * freq**-slope
    spectrum[0, 0] = 0
    return standardize(np.fft.irfft2(spectrum, s=(side, side)))


def standardize(a: np.ndarray) -> np.ndarray:
    """Zero mean, unit deviation, clipped to 3 deviations, float32."""
    a = a - a.mean()
    return np.clip(a / (a.std() + 1e-8), -3, 3).astype(np.float32)


def _band_noise(rng, side):
    sigma = np.exp(rng.uniform(np.log(0.6), np.log(12)))
    return standardize(ndimage.gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), sigma, mode="wrap"))


def _stripes(rng, side):
    warp = spectral_noise(rng, side, rng.uniform(1.5, 2.2)) * rng.uniform(0, 8)
    y, x = np.mgrid[:side, :side]
    angle = rng.uniform(0, np.pi)
    phase = (x * np.cos(angle) + y * np.sin(angle) + warp) * 2 * np.pi / rng.uniform(4, 40)
    return standardize(np.sin(phase) + 0.3 * spectral_noise(rng, side, 1.0))


def _folds(rng, side):
    ridges = -np.abs(spectral_noise(rng, side, rng.uniform(1.5, 2.3), rng.uniform(1, 3)))
    return standardize(np.rot90(ridges, rng.integers(4)) + 0.2 * spectral_noise(rng, side, 1.2))


def _grains(rng, side):
    points = rng.random((side, side)) < np.exp(rng.uniform(np.log(0.001), np.log(0.02)))
    dist = ndimage.distance_transform_edt(~points)
    return standardize(np.minimum(dist, rng.uniform(4, 20)) + 0.5 * spectral_noise(rng, side, 1.0))


def _spots(rng, side):
    a = spectral_noise(rng, side, rng.uniform(0.8, 1.6))
    return standardize(ndimage.gaussian_filter((a > rng.uniform(0.3, 1.5)).astype(np.float32), rng.uniform(0.5, 2), mode="wrap"))


@lru_cache(maxsize=1)
def texture_pool(count: int = 120) -> np.ndarray:
    """Textures (count, POOL_SIDE, POOL_SIDE) float16, zero mean and unit deviation; the same ones in every process."""
    rng = np.random.default_rng(POOL_SEED)
    kinds = (
        lambda r, s: spectral_noise(r, s, r.uniform(0.6, 2.2), r.choice([1.0, 1.0, 2.5])),
        _band_noise,
        _folds,
        _stripes,
        _grains,
        _spots,
    )
    weights = (0.35, 0.2, 0.2, 0.08, 0.09, 0.08)
    return np.stack([kinds[rng.choice(len(kinds), p=weights)](rng, POOL_SIDE) for _ in range(count)]).astype(np.float16)


@lru_cache(maxsize=1)
def smooth_pool(count: int = 24) -> np.ndarray:
    """Large-scale smooth noise (count, POOL_SIDE, POOL_SIDE) float16: bends borders, shades and colors softly."""
    rng = np.random.default_rng(POOL_SEED + 1)
    return np.stack([spectral_noise(rng, POOL_SIDE, rng.uniform(1.8, 2.8)) for _ in range(count)]).astype(np.float16)


@lru_cache(maxsize=1)
def fray_pool(count: int = 24) -> np.ndarray:
    """Fractal noise (count, POOL_SIDE, POOL_SIDE) float16 that frays borders down to the pixel."""
    rng = np.random.default_rng(POOL_SEED + 2)
    return np.stack([spectral_noise(rng, POOL_SIDE, rng.uniform(1.2, 1.7)) for _ in range(count)]).astype(np.float16)


def crop_texture(rng, pool: np.ndarray, size: int) -> np.ndarray:
    """A random place (size, size) float32 of a random texture, turned and mirrored at random."""
    texture = pool[rng.integers(len(pool))]
    y, x = rng.integers(0, POOL_SIDE - size + 1, 2)
    crop = texture[y : y + size, x : x + size]
    if rng.random() < 0.5:
        crop = crop.T
    return crop[:: rng.choice([1, -1]), :: rng.choice([1, -1])].astype(np.float32)


# --- shapes -----------------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y (size, size) float32 of the pixel centers."""
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))


@dataclass(frozen=True)
class Frame:
    """Where a shape lies: center, half lengths along its own axes, and the turn of these axes (radians)."""

    cx: float
    cy: float
    a: float
    b: float
    angle: float

    def coords(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """u, v (size, size): coordinates in the frame, 1 at the half lengths."""
        x, y = grid(size)
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx, dy = x - np.float32(self.cx), y - np.float32(self.cy)
        return (dx * c + dy * s) / np.float32(self.a), (dy * c - dx * s) / np.float32(self.b)


def blob(rng, size: int, frame: Frame, rough: float = 0.0, lobes: float = 0.1, bend: float = 0.0, power: float = 2.0, fray=0.0):
    """Field (H, W): ellipse with random Fourier radii (lobes), bent like a bean, squarish (power > 2), wavy (rough) or frayed border."""
    u, v = frame.coords(size)
    if bend:
        v = v + np.float32(bend) * (u * u - 0.4)
    r = np.hypot(u, v) if power == 2 else (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    if lobes > 0.01:
        theta = np.arctan2(v, u)
        radius = np.ones_like(r)
        for k in range(2, 7):
            radius += np.float32(rng.normal() * lobes / (k - 0.5)) * np.cos(k * theta + np.float32(rng.uniform(0, 2 * np.pi)))
        r = r / np.maximum(radius, 0.3)
    field = r - 1
    if rough:
        field = field + np.float32(rough) * crop_texture(rng, smooth_pool(), size)
    if fray:
        field = field + np.float32(fray) * crop_texture(rng, fray_pool(), size)
    return field


def polygon(rng, size: int, frame: Frame) -> np.ndarray:
    """Convex polygon of 3 to 7 sides."""
    u, v = frame.coords(size)
    n = rng.integers(3, 8)
    angles = (np.arange(n) + rng.uniform(-0.3, 0.3, n)) * 2 * np.pi / n
    sides = [(u * np.float32(np.cos(t)) + v * np.float32(np.sin(t))) / np.float32(rng.uniform(0.6, 0.95)) for t in angles]
    return np.maximum.reduce(sides) - 1


def tube(rng, size: int, frame: Frame) -> np.ndarray:
    """Winding tube along a smooth random path."""
    u, v = frame.coords(size)
    n = 22
    turn = np.cumsum(rng.normal(0, 0.25, n)) + rng.normal(0, 0.1)
    path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1), 0)
    path = (path - path.mean(0)) / (np.abs(path - path.mean(0)).max() + 1e-6)
    width = rng.uniform(0.12, 0.35)
    d2 = np.full_like(u, np.inf)
    for px, py in path.astype(np.float32):
        np.minimum(d2, (u - px) ** 2 + (v - py) ** 2, out=d2)
    return np.sqrt(d2) / np.float32(width) - 1


def lung(rng, size: int, frame: Frame, side: int) -> np.ndarray:
    """Lung of a chest X-ray: tall, narrow at the top, medial side and base hollowed; side is -1 for image left, 1 for right."""
    u, v = Frame(frame.cx, frame.cy, frame.a, frame.b, frame.angle).coords(size)
    u = u * np.float32(-side)  # medial side to +u
    narrow = 1 - np.float32(rng.uniform(0.1, 0.45)) * np.clip(-v, 0, 1) ** 2
    r = (np.abs(u / narrow) ** 2.5 + np.abs(v) ** 3.0) ** 0.4 - 1
    heart = np.hypot((u - rng.uniform(1.0, 1.7)) / rng.uniform(0.6, 1.1), (v - rng.uniform(0.1, 0.7)) / rng.uniform(0.5, 1.0)) - 1
    base = np.hypot((u - rng.uniform(-0.1, 0.5)) / rng.uniform(0.9, 1.5), (v - rng.uniform(1.1, 1.5)) / rng.uniform(0.3, 0.7)) - 1
    field = np.maximum.reduce([r, -heart, -base])
    return (field + rng.uniform(0, 0.05) * crop_texture(rng, smooth_pool(), size)).astype(np.float32)


def random_frame(rng, side_range: tuple[float, float], elongation: float = 0.55) -> Frame:
    """A frame whose longer half length is uniform in side_range (units of half the image side), mostly inside the image."""
    a = rng.uniform(*side_range)
    b = a * np.exp(-np.abs(rng.normal()) * elongation)
    room = max(0.05, 1.0 - 0.85 * a)
    cx, cy = rng.uniform(-room, room, 2)
    return Frame(cx, cy, a, max(b, 0.05), rng.uniform(0, np.pi))


def random_shape(rng, size: int, frame: Frame, odd: float = 0.3, fray: float = 0.1) -> np.ndarray:
    """Field of a random shape in the frame; odd is the share of shapes that are no simple blob, fray that of blobs with frayed borders."""
    if rng.random() > odd:
        return blob(
            rng,
            size,
            frame,
            rough=rng.choice([0, 0.06, 0.15]) * rng.uniform(0.3, 1.2),
            lobes=rng.choice([0, 0.1, 0.2, 0.3]),
            bend=rng.choice([0, 0, rng.normal() * 0.4]),
            power=rng.choice([2.0, 2.0, 2.0, 3.0]),
            fray=rng.random() * 0.25 if rng.random() < fray else 0.0,
        )
    kind = rng.integers(6)
    if kind == 0:
        return polygon(rng, size, frame)
    if kind == 1:
        return tube(rng, size, frame)
    if kind == 2:  # crescent
        shift = Frame(
            frame.cx + rng.normal() * 0.4 * frame.a,
            frame.cy + rng.normal() * 0.4 * frame.a,
            frame.a * rng.uniform(0.5, 0.9),
            frame.b * rng.uniform(0.5, 0.9),
            frame.angle,
        )
        return np.maximum(blob(rng, size, frame), -blob(rng, size, shift))
    if kind == 3:  # ring
        hole = rng.uniform(0.3, 0.75)
        inner = Frame(frame.cx, frame.cy, frame.a * hole, frame.b * hole, frame.angle)
        return np.maximum(blob(rng, size, frame), -blob(rng, size, inner))
    if kind == 4:  # two or three blobs grown together
        parts = [blob(rng, size, frame)]
        for _ in range(rng.integers(1, 3)):
            t, q = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.9)
            part = Frame(frame.cx + np.cos(t) * frame.a, frame.cy + np.sin(t) * frame.b, frame.a * q, frame.a * q, t)
            parts.append(blob(rng, size, part))
        return np.minimum.reduce(parts)
    return lung(rng, size, frame, rng.choice([-1, 1]))


def clean_mask(field: np.ndarray) -> np.ndarray:
    """Largest connected part (H, W) bool of the field's inside."""
    labels, n = ndimage.label(field < 0)
    if n <= 1:
        return labels > 0
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


# --- looks ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """Colors (rows of RGB, 0 to 1) of background and objects and how often each effect comes (probabilities)."""

    name: str
    back: tuple
    fore: tuple
    gray: bool = False
    count: tuple = (1, 3)
    side: tuple = (0.15, 0.9)
    odd: float = 0.25
    mosaic: float = 0.2
    back_texture: tuple = (0.02, 0.12)
    highlights: float = 0.1
    hairs: float = 0.03
    corners: float = 0.1
    speckle: float = 0.1
    nested: float = 0.1
    fray: float = 0.1
    lumen: float = 0.0
    weakest: float = 0.15  # least contrast


STYLES = (
    Style(
        "endoscopy",
        back=((0.75, 0.38, 0.3), (0.65, 0.3, 0.22), (0.85, 0.55, 0.4), (0.6, 0.35, 0.3), (0.8, 0.45, 0.42)),
        fore=((0.75, 0.3, 0.25), (0.85, 0.6, 0.5), (0.6, 0.2, 0.18), (0.9, 0.7, 0.6), (0.8, 0.4, 0.25)),
        count=(1, 2),
        side=(0.15, 0.85),
        odd=0.12,
        mosaic=0.2,
        back_texture=(0.005, 0.045),
        highlights=0.75,
        corners=0.6,
        nested=0.03,
        lumen=0.6,
    ),
    Style(
        "dermoscopy",
        back=((0.85, 0.68, 0.6), (0.9, 0.75, 0.68), (0.75, 0.55, 0.45), (0.8, 0.62, 0.6), (0.65, 0.5, 0.45)),
        fore=((0.4, 0.25, 0.18), (0.3, 0.2, 0.18), (0.6, 0.4, 0.3), (0.7, 0.4, 0.38), (0.25, 0.18, 0.2)),
        count=(1, 1),
        side=(0.2, 1.0),
        odd=0.05,
        mosaic=0.05,
        back_texture=(0.01, 0.06),
        hairs=0.35,
        corners=0.35,
        nested=0.03,
        fray=0.55,
        weakest=0.3,
    ),
    Style(
        "stained",
        back=((0.93, 0.88, 0.85), (0.9, 0.8, 0.85), (0.85, 0.75, 0.6), (0.95, 0.93, 0.9), (0.75, 0.7, 0.72)),
        fore=((0.45, 0.25, 0.55), (0.7, 0.5, 0.7), (0.85, 0.6, 0.65), (0.35, 0.3, 0.6), (0.75, 0.6, 0.55), (0.6, 0.65, 0.8)),
        count=(1, 8),
        side=(0.12, 0.7),
        odd=0.12,
        mosaic=0.05,
        nested=0.7,
        weakest=0.25,
    ),
    Style(
        "fluorescence", back=((0.03,) * 3, (0.1,) * 3), fore=((0.9,) * 3, (0.4,) * 3, (0.6,) * 3), gray=True, count=(3, 8), side=(0.1, 0.5)
    ),
    Style(
        "ct",
        back=((0.4,) * 3, (0.5,) * 3, (0.3,) * 3),
        fore=((0.6,) * 3, (0.5,) * 3, (0.8,) * 3, (0.15,) * 3, (0.42,) * 3),
        gray=True,
        count=(2, 7),
        side=(0.1, 0.75),
        odd=0.35,
        mosaic=0.7,
        nested=0.25,
    ),
    Style(
        "xray",
        back=((0.6,) * 3, (0.5,) * 3, (0.75,) * 3),
        fore=((0.2,) * 3, (0.3,) * 3, (0.12,) * 3),
        gray=True,
        count=(1, 2),
        corners=0.05,
    ),
    Style(
        "ultrasound",
        back=((0.25,) * 3, (0.4,) * 3, (0.15,) * 3),
        fore=((0.05,) * 3, (0.15,) * 3, (0.5,) * 3, (0.65,) * 3),
        gray=True,
        count=(1, 3),
        side=(0.15, 0.8),
        odd=0.15,
        speckle=1.0,
        corners=0.3,
    ),
    Style("any", back=(), fore=(), count=(1, 7), side=(0.08, 0.9), odd=0.45, mosaic=0.4, nested=0.25, back_texture=(0.02, 0.25)),
)
STYLE_WEIGHTS = (0.24, 0.17, 0.14, 0.04, 0.11, 0.09, 0.07, 0.14)


def pick_color(rng, colors: tuple, gray: bool) -> np.ndarray:
    """One of the colors (3,) with some change; any color when there are none."""
    if not colors:
        return rng.uniform(0.05, 0.95, 3).astype(np.float32)
    color = np.array(colors[rng.integers(len(colors))], np.float32)
    change = rng.normal() * 0.08 + (0 if gray else rng.normal(size=3) * 0.04)
    return np.clip(color + change, 0.01, 0.99).astype(np.float32)


def tint(rng, gray: bool, strength: float) -> np.ndarray:
    """Color direction (3,) in which a texture swings."""
    direction = np.ones(3) if gray else np.ones(3) + rng.normal(size=3) * 0.35
    return (direction * strength).astype(np.float32)


def background(rng, size: int, style: Style) -> np.ndarray:
    """Textured ground (size, size, 3) float32, at times a patchwork of several tissues."""
    color = pick_color(rng, style.back, style.gray)
    image = np.broadcast_to(color, (size, size, 3)).copy()
    image += crop_texture(rng, smooth_pool(), size)[..., None] * tint(rng, style.gray, rng.uniform(0, 0.1))
    if rng.random() < style.mosaic:
        for _ in range(rng.integers(1, 4)):
            cut = crop_texture(rng, smooth_pool(), size) - rng.normal() * 0.5
            other = color + (pick_color(rng, style.back + style.fore, style.gray) - color) * rng.uniform(0.2, 1)
            alpha = 1 / (1 + np.exp(-np.clip(cut * rng.choice([3, 15, 60]), -30, 30)))
            image += alpha[..., None] * (other - image)
    if rng.random() < style.lumen:
        lumen(rng, image)
    for _ in range(rng.integers(1, 4)):
        strength = rng.uniform(*style.back_texture)
        image += crop_texture(rng, texture_pool(), size)[..., None] * tint(rng, style.gray, strength)
    return image


def lumen(rng, image: np.ndarray) -> None:
    """The way on through a gut: a dark hole with folds around it, which step from bright to dark (in place)."""
    size = image.shape[0]
    frame = Frame(*rng.uniform(-0.8, 0.8, 2), *rng.uniform(0.15, 0.5, 2), rng.uniform(0, np.pi))
    field = blob(rng, size, frame, rough=rng.uniform(0, 0.25))
    if rng.random() < 0.7:
        rings = np.mod(np.log1p(np.clip(field, 0, None)) * rng.uniform(1.5, 4) + 0.15 * crop_texture(rng, smooth_pool(), size), 1)
        folds = ndimage.gaussian_filter(rings, rng.uniform(0.7, 2.0)) - 0.5
        image += (folds * (field > 0) * rng.uniform(0.05, 0.3))[..., None]
    dark = 1 / (1 + np.exp(np.clip(field * rng.uniform(2, 25), -30, 30)))
    image *= 1 - (dark * rng.uniform(0.4, 0.95))[..., None]


@dataclass(frozen=True)
class Look:
    """How an object differs from what lies around it (amounts in units of the full brightness range)."""

    contrast: float  # share of the way from the local mean color to the object's own
    keep: float  # how much of the underlying structure shines through
    texture: float
    bump: float  # brightening to the middle, as of a lit dome
    slope: float  # linear shading
    rim: float
    rim_width: float  # relative to the shape's half length
    blur_px: float
    shadow: float  # dark or bright halo outside
    inner: int  # unlabeled structures inside
    fade: float = 0.0  # share of the contrast that comes only towards the middle


def random_look(rng, weakest: float) -> Look:
    """Mostly a difference in mean; at times only texture, rim or shading."""
    kind = rng.choice(4, p=(0.7, 0.1, 0.1, 0.1))
    contrast = np.exp(rng.uniform(np.log(weakest), np.log(1.0))) if kind == 0 else rng.uniform(0, 0.15)
    sign = rng.choice([-1, 1])
    return Look(
        contrast=contrast,
        keep=rng.choice([0.0, 0.3, 0.8, 1.0]) if kind != 1 else rng.choice([0.0, 0.3]),
        texture=rng.uniform(0.05, 0.15) if kind == 1 else rng.choice([0.0, 1.0]) * rng.uniform(0, 0.12),
        bump=sign * rng.uniform(0.15, 0.35) if kind == 3 else rng.choice([0, 1]) * rng.normal() * 0.12,
        slope=rng.normal() * (0.15 if kind == 3 else 0.05),
        rim=sign * rng.uniform(0.15, 0.45) if kind == 2 else rng.choice([0, 0, 1]) * rng.normal() * 0.12,
        rim_width=rng.uniform(0.03, 0.12),
        blur_px=np.exp(rng.uniform(np.log(0.4), np.log(3.5))),
        shadow=rng.choice([0, 1]) * rng.normal() * 0.12 if kind != 3 else -rng.uniform(0.05, 0.2),
        inner=rng.choice([0, 0, 1, 2, 4]),
        fade=rng.choice([0, 0, 0, 1]) * rng.uniform(0.2, 0.8),
    )


def paint(rng, image: np.ndarray, field: np.ndarray, mask: np.ndarray, color: np.ndarray, look: Look, gray: bool) -> None:
    """Paint one object into image (in place)."""
    size = image.shape[0]
    local = image[mask].mean(0)
    blur = min(look.blur_px, 0.12 * np.sqrt(mask.sum()))
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), blur, truncate=2.5)[..., None]
    depth = np.clip(-field, 0, 1)
    x, y = grid(size)
    turn = rng.uniform(0, 2 * np.pi)
    shade = look.bump * (np.sqrt(depth) - 0.5) + look.slope * (x * np.cos(turn) + y * np.sin(turn))
    has_texture = look.texture > 0
    fill_texture = crop_texture(rng, texture_pool(), size)[..., None] * tint(rng, gray, look.texture) if has_texture else 0
    if look.shadow:
        halo = np.exp(-np.square(np.clip(field, 0, None) / 0.25)) * (field > 0)
        image += np.float32(look.shadow) * halo[..., None]
    contrast = look.contrast * (1 - look.fade * (1 - np.minimum(depth * 3, 1)))[..., None] if look.fade else np.float32(look.contrast)
    fill = local + (color - local) * contrast + (image - local) * np.float32(look.keep)
    image += alpha * (fill + shade[..., None] + fill_texture - image)
    if look.rim:
        band = np.exp(-np.square(field / look.rim_width)) * ndimage.gaussian_filter(mask.astype(np.float32), 1.0, truncate=2)
        image += band[..., None] * tint(rng, gray, look.rim)


def paint_inner(rng, image: np.ndarray, mask: np.ndarray, count: int, gray: bool) -> None:
    """Unlabeled patches inside an object: their edges are no object borders."""
    ys, xs = np.nonzero(mask)
    extent = np.sqrt(len(ys)) / image.shape[0]
    for _ in range(count):
        i = rng.integers(len(ys))
        cx, cy = np.array([xs[i], ys[i]]) * 2 / image.shape[0] - 1
        frame = Frame(cx, cy, extent * rng.uniform(0.1, 0.7), extent * rng.uniform(0.1, 0.7), rng.uniform(0, np.pi))
        field = blob(rng, image.shape[0], frame, rough=rng.uniform(0, 0.3))
        soft = rng.choice([3.0, 8.0, 20.0])
        alpha = 1 / (1 + np.exp(np.clip(field * soft, -30, 30))) * ndimage.gaussian_filter(mask.astype(np.float32), 1.0, truncate=2)
        image += alpha[..., None] * tint(rng, gray, rng.normal() * 0.15)


# --- whole scenes -----------------------------------------------------------------------------------------------------------------------


def place_objects(rng, image: np.ndarray, style: Style) -> list[np.ndarray]:
    """Paint the objects of a style; the masks (H, W) bool of their visible parts, nested ones counting to their parents too."""
    size = image.shape[0]
    masks: list[np.ndarray] = []
    low, high = style.count
    count = rng.integers(low, high + 1)
    side = (style.side[0], max(style.side[0] + 0.05, style.side[1] * (1.0 if count <= 2 else 1.3 / np.sqrt(count))))
    alike = rng.random() < 0.5  # several of one kind side by side
    color, look = pick_color(rng, style.fore, style.gray), random_look(rng, style.weakest)
    proto = random_frame(rng, side)
    for _ in range(count):
        frame = random_frame(rng, side)
        if alike and count > 1:
            frame = Frame(frame.cx, frame.cy, proto.a * rng.uniform(0.8, 1.2), proto.b * rng.uniform(0.8, 1.2), frame.angle)
        else:
            color, look = pick_color(rng, style.fore, style.gray), random_look(rng, style.weakest)
        field = random_shape(rng, size, frame, style.odd, style.fray)
        add_object(rng, image, masks, field, color, look, style)
        if rng.random() < style.nested and len(masks) and len(masks) < MAX_OBJECTS:
            add_nested(rng, image, masks, frame, style)
    return masks


def add_object(rng, image, masks, field, color, look, style) -> None:
    """Paint a shape on top and take what it covers from the masks below it; a shape too small is left out."""
    mask = clean_mask(field)
    if mask.sum() < MIN_AREA_PX or len(masks) >= MAX_OBJECTS:
        return
    if any((m & mask).sum() > 0.5 * m.sum() for m in masks):
        return
    paint(rng, image, field, mask, color, look, style.gray)
    if look.inner and rng.random() < 0.8:
        paint_inner(rng, image, mask, look.inner, style.gray)
    for m in masks:
        m &= ~mask
    masks.append(mask)


def add_nested(rng, image, masks, frame: Frame, style: Style) -> None:
    """Paint a nucleus-like thing into the last object; it has a mask of its own and stays part of the object."""
    parent = masks[-1]
    share = rng.uniform(0.3, 0.8)
    slack = 1 - share
    cx, cy = frame.cx + rng.uniform(-0.5, 0.5) * slack * frame.b, frame.cy + rng.uniform(-0.5, 0.5) * slack * frame.b
    inner = Frame(cx, cy, frame.a * share, frame.b * share * rng.uniform(0.8, 1.2), frame.angle)
    field = random_shape(rng, image.shape[0], inner, 0.3)
    mask = clean_mask(np.where(parent, field, 1.0))
    if mask.sum() < MIN_AREA_PX or mask.sum() > 0.85 * parent.sum():
        return
    look = random_look(rng, style.weakest)
    paint(rng, image, field, mask, pick_color(rng, style.fore, style.gray), look, style.gray)
    masks.append(mask)


def place_lungs(rng, image: np.ndarray, style: Style) -> list[np.ndarray]:
    """A chest: two dark lungs, brighter middle, dark air at the sides and ribs over everything; one mask for each lung."""
    size = image.shape[0]
    x, y = grid(size)
    wide = rng.uniform(0.75, 1.1)
    body = ndimage.gaussian_filter((np.abs(x) < wide + 0.1 * y).astype(np.float32), 2)
    image *= (1 - rng.uniform(0, 0.9) * (1 - body))[..., None]
    middle = np.exp(-np.square(x / rng.uniform(0.12, 0.3)))
    image += (middle * rng.uniform(0.0, 0.3))[..., None]
    cy, tall, a = rng.normal() * 0.08 - 0.05, rng.uniform(0.5, 0.88), rng.uniform(0.25, 0.42)
    look = random_look(rng, style.weakest)
    look = Look(**{**look.__dict__, "contrast": rng.uniform(0.35, 1.0), "inner": int(rng.choice([0, 1, 3])), "shadow": 0.0})
    color = pick_color(rng, style.fore, True)
    masks: list[np.ndarray] = []
    for side in (-1, 1):
        gap = a + rng.uniform(0.03, 0.16)
        frame = Frame(side * gap + rng.normal() * 0.03, cy + rng.normal() * 0.04, a * rng.uniform(0.85, 1.1), tall, rng.normal() * 0.1)
        add_object(rng, image, masks, lung(rng, size, frame, side), color, look, style)
    ribs(rng, image, rng.uniform(0.02, 0.12))
    return masks


def ribs(rng, image: np.ndarray, strength: float) -> None:
    """Bright arcs over the whole image, mirrored at the middle."""
    x, y = grid(image.shape[0])
    phase = (y + rng.uniform(0.2, 0.9) * np.abs(np.abs(x) - rng.uniform(0.2, 0.6)) ** 1.5) * rng.uniform(12, 24) + rng.uniform(0, 6)
    image += (np.clip(np.sin(phase), 0, 1) * strength * np.clip(1.2 - np.abs(x), 0, 1))[..., None]


def body_outline(rng, image: np.ndarray) -> np.ndarray:
    """CT: black air outside a body with a bright rim (in place); returns the body (H, W) bool."""
    field = blob(
        rng, image.shape[0], Frame(rng.normal() * 0.05, rng.normal() * 0.05, rng.uniform(0.8, 1.2), rng.uniform(0.6, 1.0), 0), lobes=0.05
    )
    image += (np.exp(-np.square(field / 0.05)) * rng.uniform(0, 0.3))[..., None]
    image *= (field < 0)[..., None]
    return field < 0


def highlights(rng, image: np.ndarray) -> None:
    """Small glaring reflections."""
    size = image.shape[0]
    spots = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 12)):
        y, x = rng.integers(0, size, 2)
        h, w = rng.integers(1, max(2, size // 20), 2)
        spots[y : y + h, x : x + w] = 1
    spots = ndimage.gaussian_filter(spots, rng.uniform(0.6, 1.5))[..., None]
    image += spots * (rng.uniform(0.7, 1.0) - image) * 1.3


def hairs(rng, image: np.ndarray) -> None:
    """Thin dark or light curves."""
    size = image.shape[0]
    x, y = grid(size)
    for _ in range(rng.integers(1, 8)):
        angle, bend, offset = rng.uniform(0, np.pi), rng.normal() * 0.4, rng.uniform(-1, 1)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        line = np.abs(across - bend * along**2 - offset) < rng.uniform(0.006, 0.02)
        line = line & (along > rng.uniform(-1.4, 0)) & (along < rng.uniform(0, 1.4))
        image += (ndimage.uniform_filter(line.astype(np.float32), 2) * rng.choice([-1, -1, 1]) * rng.uniform(0.1, 0.5))[..., None]


def corners(rng, image: np.ndarray) -> np.ndarray:
    """Black outside a round, eight-sided, rectangular or fan-shaped view (in place); returns the view (H, W) bool."""
    x, y = grid(image.shape[0])
    cx, cy = rng.normal(size=2) * 0.05
    kind = rng.integers(4)
    if kind == 0:
        outside = np.hypot(x - cx, y - cy) / rng.uniform(1.0, 1.4)
    elif kind == 1:
        outside = np.maximum(np.maximum(np.abs(x), np.abs(y)) / rng.uniform(0.9, 1.0), (np.abs(x) + np.abs(y)) / rng.uniform(1.3, 1.8))
    elif kind == 2:
        outside = np.maximum(np.abs(x - cx) / rng.uniform(0.85, 1.1), np.abs(y - cy) / rng.uniform(0.85, 1.1))
    else:
        radius = np.hypot(x - cx, y + 1.3) / rng.uniform(2.0, 2.4)
        outside = np.maximum(radius, np.abs(x - cx) / np.maximum((y + 1.3) * rng.uniform(0.5, 0.9), 1e-3))
    alpha = 1 / (1 + np.exp(np.clip((outside - 1) * rng.choice([20, 60, 120]), -30, 30)))
    image *= np.maximum(alpha, rng.uniform(0, 0.06))[..., None].astype(np.float32)
    return outside < 1


def inset(rng, image: np.ndarray) -> np.ndarray:
    """A black corner box and rows of small letters, as endoscopes print (in place); returns what stays visible (H, W) bool."""
    size = image.shape[0]
    w, h = rng.integers(size // 5, size // 2.2, 2)
    visible = np.ones((size, size), bool)
    if rng.random() < 0.6:
        visible[size - h :, :w] = False
    letters = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(0, 6)):
        y, x, n = rng.integers(2, size - 4), rng.integers(0, size // 4), rng.integers(4, 20)
        letters[y : y + rng.integers(1, 3), x : x + n] = (rng.random(n) < 0.6)[: size - x]
    image *= visible[..., None]
    image += letters[..., None] * (rng.uniform(0.5, 0.9) - image)
    return visible


def vignette(rng, image: np.ndarray) -> None:
    """Light that falls off from a random middle, and a soft uneven shading."""
    x, y = grid(image.shape[0])
    cx, cy = rng.uniform(-0.6, 0.6, 2)
    image *= (1 - rng.uniform(0, 0.35) * ((x - cx) ** 2 + (y - cy) ** 2) / 2)[..., None]
    image *= (1 + crop_texture(rng, smooth_pool(), image.shape[0]) * rng.uniform(0, 0.12))[..., None]


def speckle(rng, image: np.ndarray) -> None:
    """Multiplicative grain as of ultrasound."""
    size = image.shape[0]
    grain = ndimage.gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), (rng.uniform(0.3, 1), rng.uniform(0.3, 2)))
    image *= np.clip(1 + standardize(grain) * rng.uniform(0.15, 0.6), 0, 3)[..., None]


def finish(rng, image: np.ndarray, gray: bool) -> np.ndarray:
    """Gain, gamma, blur, noise and compression of the camera; (H, W, 3) uint8."""
    image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.normal() * 0.2))
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, (s := rng.uniform(0.3, 1.3), s, 0), truncate=2.5)
    if rng.random() < 0.5:
        noise = rng.standard_normal(image.shape[:2] + (1 if gray else 3,)).astype(np.float32)
        image = image + noise * rng.uniform(0.0, 0.06)
    image = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        image = jpeg(image, int(rng.integers(25, 90)))
    return image


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def visibility(image: np.ndarray, mask: np.ndarray, ring_px: int = 4) -> float:
    """How far a mask (H, W) bool stands out from image (H, W, 3): difference of mean or spread of color between rings on both sides of its
    border, in standard deviations within them."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = tuple(slice(max(0, i[0] - ring_px), i[-1] + ring_px + 1) for i in (rows, cols))
    m, colors = mask[window], image[window].astype(np.float32)
    inner = m & ~ndimage.binary_erosion(m, iterations=ring_px, border_value=1)
    outer = ~m & ndimage.binary_dilation(m, iterations=ring_px)
    if outer.sum() < 10 or inner.sum() < 10:
        return 0.0
    a, b = colors[inner], colors[outer]
    spread = np.sqrt((a.var(0).mean() + b.var(0).mean()) / 2) + 3
    shift = np.abs(a.mean(0) - b.mean(0)).max() / spread
    texture = np.abs(a.std(0).mean() - b.std(0).mean()) / spread
    return float(max(shift, texture))


def draw_scene(rng: np.random.Generator, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image (size, size, 3) uint8 and masks (N, size, size) bool, 1 <= N <= MAX_OBJECTS, of what a doctor would outline."""
    while True:
        style = STYLES[rng.choice(len(STYLES), p=STYLE_WEIGHTS)]
        image = background(rng, size, style)
        lungs = style.name == "xray" and rng.random() < 0.8
        masks = place_lungs(rng, image, style) if lungs else place_objects(rng, image, style)
        visible = overlay(rng, image, style)
        image = finish(rng, image, style.gray)
        masks = [clean for m in masks if (clean := clean_mask(-(m & visible).astype(np.int8))).sum() >= MIN_AREA_PX]
        masks = [m for m in masks if visibility(image, m) >= LEAST_VISIBILITY]
        if masks:
            return image, np.stack(masks)


def overlay(rng, image: np.ndarray, style: Style) -> np.ndarray:
    """Effects that lie over the whole scene (in place); returns what stays visible (H, W) bool."""
    visible = np.ones(image.shape[:2], bool)
    if style.name == "ct" and rng.random() < 0.6:
        visible &= body_outline(rng, image)
    if rng.random() < 0.6:
        vignette(rng, image)
    if rng.random() < style.highlights:
        highlights(rng, image)
    if rng.random() < style.hairs:
        hairs(rng, image)
    if rng.random() < style.speckle:
        speckle(rng, image)
    if rng.random() < style.corners:
        visible &= corners(rng, image)
    if style.name == "endoscopy" and rng.random() < 0.4:
        visible &= inset(rng, image)
    return visible


def contact_sheet(seed: int, rows: int = 6, cols: int = 8, size: int = 128) -> np.ndarray:
    """Scenes side by side (rows * size, cols * size, 3) uint8 with the outlines of their masks in green, to look at."""
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(rows * cols):
        image, masks = draw_scene(rng, size)
        image = image.copy()
        for m in masks:
            image[m & ~ndimage.binary_erosion(m, border_value=1)] = (0, 255, 0)
        tiles.append(image)
    return np.concatenate([np.concatenate(tiles[r * cols : (r + 1) * cols], 1) for r in range(rows)])
