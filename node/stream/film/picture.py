"""The film's picture: sky, hills, the brook, five stones, drops of light; computed in linear light.

Whatever does not move is computed once per pixel. The water is streaks of noise, stretched along the
brook and carried down it; the lights are small round patches added on top.
"""

import subprocess
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from node.stream.film import story

WIDTH, HEIGHT = 1280, 720
Plane: TypeAlias = NDArray[np.floating[Any]]

GOLD = np.array([1.0, 0.62, 0.18], np.float32)
PALE = np.array([0.45, 0.85, 1.0], np.float32)
WARM = np.array([1.0, 0.78, 0.5], np.float32)
HILLS = (  # height of the crest, its waves, its colour by night and by morning
    (0.40, 0.055, 2.1, 0.3, (0.016, 0.026, 0.050), (0.17, 0.095, 0.125)),
    (0.47, 0.050, 3.3, 1.9, (0.010, 0.019, 0.036), (0.082, 0.060, 0.085)),
    (0.55, 0.036, 5.2, 4.0, (0.006, 0.013, 0.022), (0.033, 0.042, 0.046)),
)
MEADOW = ((0.0035, 0.009, 0.012), (0.020, 0.036, 0.026))
SKY = (  # zenith and horizon
    ((0.006, 0.012, 0.040), (0.020, 0.045, 0.095)),
    ((0.055, 0.105, 0.24), (0.74, 0.30, 0.13)),
)


def _rgb(colour: tuple[float, float, float]) -> Plane:
    return np.array(colour, np.float32)


def _blend(night: tuple[float, float, float], morning: tuple[float, float, float], dawn: float) -> Plane:
    return _rgb(night) * (1 - dawn) + _rgb(morning) * dawn


def bed(x: Plane | float) -> Plane:
    """The middle of the brook, in pixels from the top."""
    u = np.asarray(x, np.float32) / WIDTH
    return (HEIGHT * (0.575 + 0.115 * u + 0.052 * np.sin(6.6 * u + 0.4))).astype(np.float32)


def half_width(x: Plane | float) -> Plane:
    """Half the brook's width in pixels: it comes towards us."""
    u = np.asarray(x, np.float32) / WIDTH
    return (15 + 40 * u**1.3 + 4 * np.sin(9 * u)).astype(np.float32)


def stone(place: float) -> tuple[float, float]:
    """Where on the picture a place on the line of nodes lies (0 is Alice, 4 is Eric)."""
    x = WIDTH * (0.095 + 0.81 * place / story.HOPS)
    return x, float(bed(x))


@dataclass
class Noise:
    """Smooth noise that repeats every 256 units, looked up at any real place."""

    table: Plane

    def at(self, u: Plane, v: Plane) -> Plane:
        """The noise at these places, 0 to 1."""
        whole_u, whole_v = np.floor(u), np.floor(v)
        s, t = u - whole_u, v - whole_v
        s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
        i, j = whole_u.astype(np.int32) & 255, whole_v.astype(np.int32) & 255
        right, below = (i + 1) & 255, (j + 1) & 255
        above = self.table[j, i] * (1 - s) + self.table[j, right] * s
        under = self.table[below, i] * (1 - s) + self.table[below, right] * s
        return above * (1 - t) + under * t


class Picture:
    """Draws the frame of any moment."""

    def __init__(self, seed: int = 7) -> None:
        random = np.random.default_rng(seed)
        self.noise = Noise(random.random((256, 256), np.float32))
        self.y, self.x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        self.stars = self._starfield(random)
        self.crests = [self._below_crest(*hill[:4]) for hill in HILLS]
        self.meadow = _step((self.y - HEIGHT * 0.575 - 0.055 * self.x * HEIGHT / WIDTH) / 26)
        self.grass = self._grass()
        self.brook = self._brook()
        self.grain = (random.random((HEIGHT, WIDTH, 1), np.float32) - 0.5) / 255
        self.names = [_text(name, 22, "Lato") for name in story.NAMES]
        self.title = _text("Rill", 158, "Lato Light")
        self.subtitle = _text("a film, paid for drop by drop", 30, "Lato")

    def frame(self, now: float) -> NDArray[np.uint8]:
        """The picture at this second, as HEIGHT × WIDTH × 3 bytes."""
        dawn = story.dawn(now)
        light = self._landscape(now, dawn)
        self._flow(light, now, dawn)
        self._draw_stones(light, now, dawn)
        self._draw_lights(light, now)
        self._draw_chunks(light, now)
        self._draw_title(light, now)
        light *= story.curtain(now)
        shown = (1 - np.exp(-1.35 * light)) ** (1 / 2.2) + self.grain
        return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _landscape(self, now: float, dawn: float) -> Plane:
        """Sky, stars, a sun that is about to rise, hills and meadow."""
        height = np.clip(self.y / (HEIGHT * 0.52), 0, 1)[..., None] ** 1.6
        light = _sky(height, dawn)
        away = ((self.x - WIDTH * 0.50) / 330) ** 2 + ((self.y - HEIGHT * (0.50 - 0.06 * dawn)) / 120) ** 2
        light += (dawn**2 * 1.15 * np.exp(-away))[..., None] * WARM
        twinkle = self.noise.at(self.x * 0.37, self.y * 0.37 + np.float32(now * 1.3))
        light += (self.stars * (0.55 + 0.45 * twinkle) * (1 - dawn) ** 2)[..., None]
        for below, hill in zip(self.crests, HILLS, strict=True):
            light += below[..., None] * (_blend(hill[4], hill[5], dawn) - light)
        light += self.meadow[..., None] * (_blend(*MEADOW, dawn) * self.grass[..., None] - light)
        return light

    def _flow(self, light: Plane, now: float, dawn: float) -> None:
        """The water: streaks carried down the brook, mirroring the sky where they are smooth."""
        rows, columns, along, across, cover = self.brook
        t = np.float32(now)
        swirl = self.noise.at(along / 80 - 0.70 * t, across * 1.5 + 40)
        ripple = self.noise.at(along / 24 - 1.9 * t, across * 3.1 + 2 * swirl + 90)
        broken = self.noise.at(along / 42 - 1.15 * t, across * 4.2 + 150)
        streak = 1 - np.abs(np.sin(np.float32(np.pi) * (2.1 * across + 2.2 * swirl + 0.5 * ripple)))
        glint = streak**3 * np.clip(2.2 * broken - 0.55, 0, None) + 0.6 * np.clip(ripple - 0.72, 0, None)
        deep = _blend((0.007, 0.026, 0.044), (0.075, 0.085, 0.115), dawn)
        bright = _blend((0.09, 0.27, 0.38), (0.95, 0.52, 0.28), dawn)
        water = deep * (0.5 + 0.8 * swirl)[:, None] + bright * (0.75 * glint)[:, None]
        light[rows, columns] += cover[:, None] * (water - light[rows, columns])

    def _draw_stones(self, light: Plane, now: float, dawn: float) -> None:
        for node, name in enumerate(self.names):
            x, y = stone(node)
            radius = 15 + 2.5 * node
            gold, pale = story.pulse(now, node)
            _glow(light, x, y, radius * 2.2, GOLD * gold * 0.7 + PALE * pale * 0.45)
            self._disc(light, x, y, radius, gold, pale, dawn)
            below = float(bed(x) + 1.05 * half_width(x)) + 26
            _stamp(light, name, x, below, (WARM + 0.2) * (0.6 + 0.6 * min(1.0, gold + pale)))

    def _disc(
        self, light: Plane, x: float, y: float, radius: float, gold: float, pale: float, dawn: float
    ) -> None:
        """One stone: a dark body, lit from above, with a rim that answers what passes."""
        top, left, patch = _patch(light, x, y, radius + 6)
        height, width = patch.shape[:2]
        dy, dx = np.mgrid[top : top + height, left : left + width].astype(np.float32)
        distance = np.hypot(dx - x, (dy - y) * 1.12)
        body = _step(radius - distance)[..., None]
        lit = np.clip(0.5 - (dy - y) / (2 * radius), 0, 1)[..., None]
        colour = _blend((0.012, 0.020, 0.030), (0.075, 0.075, 0.085), dawn) * (0.4 + 1.5 * lit)
        patch += body * (colour - patch)
        rim = np.exp(-(((distance - radius) / 1.7) ** 2))[..., None]
        quiet = _blend((0.10, 0.17, 0.22), (0.42, 0.25, 0.16), dawn)
        patch += rim * (quiet + GOLD * gold * 1.6 + PALE * pale * 1.2)

    def _draw_lights(self, light: Plane, now: float) -> None:
        """Drops with a tail on the water, preimages in arcs above it."""
        for step in range(24):
            fade = (1 - step / 24) ** 2 * 0.45
            for moving in story.lights(now - 0.0055 * step):
                x, y = stone(moving.place)
                size = 0.75 + 0.5 * moving.place / story.HOPS
                if moving.is_preimage:
                    y -= 16 * size + 62 * size * abs(np.sin(np.pi * moving.place))
                    _glow(light, x, y, 13 * size, PALE * 0.40 * fade)
                    _glow(light, x, y, 4.0 * size, PALE * 1.1 * fade)
                else:
                    _glow(light, x, y, 24 * size, GOLD * 0.34 * fade)
                    _glow(light, x, y, 6.5 * size, (GOLD + 0.35) * 1.5 * fade)

    def _draw_chunks(self, light: Plane, now: float) -> None:
        """The strip of film at the bottom: a dark cell for each chunk, lit when Alice holds its key."""
        brightness = story.chunks(now)
        pitch, wide, high = 62, 52, 30
        left = (WIDTH - pitch * len(brightness) + pitch - wide) // 2
        for index, held in enumerate(brightness):
            x = left + index * pitch
            cell = light[656 : 656 + high, x : x + wide]
            cell += 0.85 * (_rgb((0.006, 0.010, 0.014)) - cell)
            flash = 1 + 1.5 * held * (1 - held) * 4
            cell += held * flash * _still(index / (len(brightness) - 1), wide, high)
            _frame_of(cell, _rgb((0.05, 0.075, 0.09)) + held * 0.25 * WARM)

    def _draw_title(self, light: Plane, now: float) -> None:
        shown = story.title(now)
        if shown > 0:
            _stamp(light, self.title, WIDTH / 2, HEIGHT * 0.175, (WARM + 0.35) * 1.9 * shown)
            late = story.eased((now - story.TITLE_AT - 0.5) / 1.2)
            _stamp(light, self.subtitle, WIDTH / 2, HEIGHT * 0.315, (WARM + 0.35) * 1.6 * late)

    def _starfield(self, random: np.random.Generator) -> Plane:
        field = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for _ in range(150):
            x, y = random.uniform(4, WIDTH - 4), random.uniform(4, HEIGHT * 0.46)
            _glow(field, x, y, random.uniform(0.8, 1.5), np.full(3, random.uniform(0.05, 0.65) ** 1.5))
        return field[..., 0]

    def _below_crest(self, crest: float, wave: float, count: float, phase: float) -> Plane:
        u = self.x / WIDTH
        line = crest + wave * np.sin(count * u * 2.4 + phase)
        line += 0.35 * wave * np.sin(count * u * 7.1 + 2 * phase)
        trees = 0.010 * self.noise.at(u * 90 + phase * 20, np.full_like(u, phase))
        return _step((self.y - HEIGHT * (line - trees)) / 1.5)

    def _grass(self) -> Plane:
        """The meadow's light: tufts that grow towards us, and dusk in the corners."""
        depth = np.clip((self.y / HEIGHT - 0.55) / 0.45, 0.02, 1)
        tufts = self.noise.at(self.x / 30, self.y / 7 + 11) + 0.6 * self.noise.at(self.x / 9, self.y / 3)
        corners = 1 - 0.55 * np.hypot((self.x / WIDTH - 0.5) * 1.2, self.y / HEIGHT - 0.55)
        return (0.72 + 0.34 * tufts) * (1.25 - 0.65 * depth) * corners

    def _brook(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Plane, Plane, Plane]:
        """The pixels of the brook: row, column, way along it, place across it (-1 to 1), and cover."""
        x = np.arange(WIDTH, dtype=np.float32)
        tilt = np.sqrt(1 + np.gradient(bed(x)) ** 2)
        along = np.cumsum(tilt * 34 / (half_width(x) + 12)).astype(np.float32)
        across = (self.y - bed(self.x)) / (half_width(self.x) * tilt)
        across += 0.10 * (self.noise.at(self.x / 21, np.full_like(self.x, 7)) - 0.5)
        rows, columns = np.nonzero(np.abs(across) < 1.06)
        place = across[rows, columns]
        cover = _step((1 - np.abs(place)) * half_width(columns.astype(np.float32)) / 2.5)
        return rows, columns, along[columns] * 1.4, place, cover


def _sky(height: Plane, dawn: float) -> Plane:
    """The sky's colour, from the zenith (0) to the horizon (1)."""
    zenith, horizon = _blend(SKY[0][0], SKY[1][0], dawn), _blend(SKY[0][1], SKY[1][1], dawn)
    return zenith * (1 - height) + horizon * height


def _still(dawn: float, wide: int, high: int) -> Plane:
    """What one chunk of the film holds: the same sky, a little later, over one hill."""
    y, x = np.mgrid[0:high, 0:wide].astype(np.float32)
    sky = 2.1 * _sky((y / high)[..., None], dawn)
    hill = _step(y - high * (0.66 - 0.13 * np.sin(3.0 * x / wide + 5 * dawn)))[..., None]
    return sky + hill * (0.9 * _blend(*MEADOW, dawn) - sky)


def _step(signed: Plane) -> Plane:
    """An edge one unit soft: 0 outside, 1 inside."""
    return np.clip(signed + 0.5, 0, 1)


def _patch(light: Plane, x: float, y: float, reach: float) -> tuple[int, int, Plane]:
    """The part of the picture around a place: its top, its left, and a view of it."""
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    return top, left, light[top : max(top, int(y + reach) + 1), left : max(left, int(x + reach) + 1)]


def _glow(light: Plane, x: float, y: float, radius: float, colour: Plane) -> None:
    """Add a round light that fades with distance."""
    top, left, patch = _patch(light, x, y, radius * 2.6)
    height, width = patch.shape[:2]
    down = (np.arange(top, top + height, dtype=np.float32) - np.float32(y)) / radius
    over = (np.arange(left, left + width, dtype=np.float32) - np.float32(x)) / radius
    fall = np.exp(-(down**2))[:, None] * np.exp(-(over**2))[None, :]
    patch += fall[..., None] * colour


def _stamp(light: Plane, ink: Plane, x: float, y: float, colour: Plane) -> None:
    """Add a text, centred."""
    top, left = round(y - ink.shape[0] / 2), round(x - ink.shape[1] / 2)
    patch = light[top : top + ink.shape[0], left : left + ink.shape[1]]
    patch += ink[: patch.shape[0], : patch.shape[1], None] * colour


def _frame_of(cell: Plane, colour: Plane) -> None:
    cell[:1] += colour
    cell[-1:] += colour
    cell[1:-1, :1] += colour
    cell[1:-1, -1:] += colour


def _text(words: str, size: int, font: str) -> Plane:
    """A text drawn by ffmpeg, as coverage from 0 to 1, cropped to its ink."""
    drawn = f"drawtext=font='{font}':text='{words}':fontsize={size}:fontcolor=white:x=20:y=20"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"color=black:s=1000x320,{drawn}"]
    command += ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    ink = np.frombuffer(raw, np.uint8).reshape(320, 1000).astype(np.float32) / 255
    ink = np.clip((ink - 16 / 255) / (219 / 255), 0, 1)
    rows, columns = np.nonzero(ink > 0.02)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
