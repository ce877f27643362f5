"""Pictures that no set could be had of: cephalograms, occlusal films, CBCT slices, and non-films.

They are drawn from simple shapes; cephalograms and occlusal films carry the real teeth of a
panoramic, bent to their place. They teach a network to keep its hands off, not to read them.
"""

from __future__ import annotations

import cv2
import numpy as np

Pixels = np.ndarray


def cephalogram(rng: np.random.Generator, panoramic: Pixels) -> Pixels:
    """Draw a lateral (sometimes frontal) skull with half of a panoramic's teeth in its jaws."""
    size = 384
    canvas = np.zeros((size, size), np.float32)
    if rng.random() < 0.25:
        _frontal(rng, canvas, panoramic)
    else:
        _lateral(rng, canvas, panoramic)
    canvas += _cloud(rng, canvas.shape, 40) * 0.06 + _cloud(rng, canvas.shape, 6) * 0.03
    if rng.random() < 0.6:  # the ruler and the ear rod of the head holder
        x = int(rng.integers(310, 370))
        for y in range(20, 200, 8):
            cv2.line(canvas, (x, y), (x + 6, y), 0.9, 1)
        cv2.circle(canvas, (int(rng.integers(150, 190)), int(rng.integers(190, 215))), 5, 1.0, 2)
    image = _as_bytes(canvas)
    if rng.random() < 0.5:
        image = np.fliplr(image)
    crop = rng.integers(0, 40, 4)
    return np.ascontiguousarray(image[crop[0] : size - crop[1], crop[2] : size - crop[3]])


def _lateral(rng: np.random.Generator, canvas: Pixels, panoramic: Pixels) -> None:
    shift = rng.integers(-14, 15, 2)
    cx, cy = 170 + int(shift[0]), 130 + int(shift[1])
    vault = (int(rng.integers(115, 140)), int(rng.integers(92, 112)))
    face = (
        *((90, 10), (128, 62), (148, 92), (122, 104), (134, 128), (126, 150)),
        *((132, 176), (96, 200), (20, 190), (-10, 260), (-90, 260), (-110, 60)),
    )
    _fill(canvas, np.add(face, (cx, cy)), 0.16)
    _fill(canvas, _ellipse((cx, cy), vault), 0.2)
    _ring(canvas, (cx, cy), vault, 0.35, int(rng.integers(4, 9)))
    base = [(cx - 60, cy + 50), (cx + 20, cy + 60), (cx + 85, cy + 40), (cx + 20, cy + 85)]
    _fill(canvas, np.array([*base, (cx - 50, cy + 90)]), 0.22)
    _fill(canvas, _ellipse((cx + 92, cy + 48), (18, 16)), -0.14)  # orbit
    _fill(canvas, _ellipse((cx + 82, cy + 84), (22, 16)), -0.08)  # sinus
    jaw = (
        *((15, 70), (38, 76), (48, 140), (118, 140)),
        *((122, 182), (100, 186), (30, 168), (10, 140)),
    )
    _fill(canvas, np.add(jaw, (cx, cy)), 0.2)
    _fill(canvas, np.array([(cx + 55, cy + 96), (cx + 122, cy + 92), (cx + 118, cy + 122)]), 0.18)
    for number in range(5):  # neck
        at = (cx - 38 - 3 * number + int(rng.integers(-2, 3)), cy + 112 + 27 * number)
        _fill(canvas, _ellipse(at, (15, 11)), 0.22)
        _fill(canvas, _ellipse((at[0] - 26, at[1] + 6), (14, 6)), 0.12)
    rows, cols = panoramic.shape
    half = panoramic[int(rows * 0.34) : int(rows * 0.76), int(cols * 0.22) : cols // 2]
    teeth = cv2.resize(half, (88, 92)).astype(np.float32) / 255
    _blend(canvas, teeth, cx + 34, cy + 84)


def _frontal(rng: np.random.Generator, canvas: Pixels, panoramic: Pixels) -> None:
    cx, cy = 192 + int(rng.integers(-10, 11)), 150 + int(rng.integers(-10, 11))
    vault = (int(rng.integers(105, 125)), int(rng.integers(120, 135)))
    _fill(canvas, _ellipse((cx, cy), vault), 0.25)
    _ring(canvas, (cx, cy), vault, 0.35, int(rng.integers(4, 9)))
    jaw = [(cx - 92, cy + 60), (cx + 92, cy + 60), (cx + 78, cy + 150), (cx + 36, cy + 190)]
    _fill(canvas, np.array([*jaw, (cx - 36, cy + 190), (cx - 78, cy + 150)]), 0.24)
    for sign in (-1, 1):
        _fill(canvas, _ellipse((cx + sign * 45, cy + 20), (27, 22)), -0.16)
        _ring(canvas, (cx + sign * 45, cy + 20), (27, 22), 0.2, 3)
        _fill(canvas, _ellipse((cx + sign * 42, cy + 72), (24, 24)), -0.08)
    _fill(canvas, _ellipse((cx, cy + 62), (15, 34)), -0.14)
    rows, cols = panoramic.shape
    band = panoramic[int(rows * 0.34) : int(rows * 0.76), int(cols * 0.28) : int(cols * 0.72)]
    _blend(canvas, cv2.resize(band, (110, 76)).astype(np.float32) / 255, cx - 55, cy + 100)


def occlusal(rng: np.random.Generator, panoramic: Pixels) -> Pixels:
    """Bend the front teeth of a panoramic into a fan, or look at an arch of teeth on end."""
    if rng.random() < 0.4:
        return _on_end(rng)
    rows, cols = int(rng.integers(300, 400)), int(rng.integers(300, 420))
    is_upper = rng.random() < 0.6
    source_rows, source_cols = panoramic.shape
    top, low = (0.28, 0.56) if is_upper else (0.78, 0.5)
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32)
    cx, cy = cols / 2, rows * rng.uniform(-0.1, 0.15)
    inner, outer = rows * rng.uniform(0.3, 0.42), rows * rng.uniform(0.8, 0.95)
    radius = np.hypot((xs - cx) * rng.uniform(0.85, 1.1), ys - cy)
    angle = np.arctan2(xs - cx, ys - cy)
    reach = rng.uniform(0.16, 0.24)  # the share of the panoramic on either side of the midline
    along = (0.5 + reach * angle / 1.2) * source_cols
    share = (radius - inner) / (outer - inner)
    across = (top + (low - top) * share) * source_rows
    fan = cv2.remap(
        panoramic, along.astype(np.float32), across.astype(np.float32), cv2.INTER_LINEAR
    ).astype(np.float32)
    palate = 130 + 40 * _cloud(rng, (rows, cols), 12) + 20 * _cloud(rng, (rows, cols), 3)
    palate -= 30 * np.exp(-(((xs - cx) / 3) ** 2))  # the suture
    inside = np.clip((share + 0.1) * 6, 0, 1)
    beyond = np.clip((share - 1.05) * 12, 0, 1)
    image = fan * inside + palate * (1 - inside)
    image = image * (1 - beyond) + rng.uniform(0, 30) * beyond
    image = np.clip(image, 0, 255).astype(np.uint8)
    placed: Pixels = np.flipud(image).copy() if not is_upper else image
    return placed


def _on_end(rng: np.random.Generator) -> Pixels:
    rows, cols = int(rng.integers(320, 400)), int(rng.integers(300, 420))
    canvas = 0.12 + 0.08 * _cloud(rng, (rows, cols), 50)
    centre = (cols // 2, int(rows * rng.uniform(0.12, 0.25)))
    axes = (int(cols * rng.uniform(0.3, 0.36)), int(rows * rng.uniform(0.55, 0.65)))
    cv2.ellipse(canvas, centre, axes, 0, 0, 180, 0.5, int(rng.integers(60, 80)))
    cv2.ellipse(canvas, centre, (axes[0] + 34, axes[1] + 34), 0, 0, 180, 0.85, 5)
    cv2.ellipse(canvas, centre, (axes[0] - 34, axes[1] - 34), 0, 0, 180, 0.75, 3)
    canvas += 0.06 * _cloud(rng, canvas.shape, 5)
    _teeth_on_end(rng, canvas, centre, axes, 1.0)
    image = _as_bytes(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 1.6)))
    return np.flipud(image).copy() if rng.random() < 0.5 else image


def _teeth_on_end(
    rng: np.random.Generator,
    canvas: Pixels,
    centre: tuple[int, int],
    axes: tuple[int, int],
    grey: float,
) -> None:
    for angle in np.linspace(12, 168, int(rng.integers(11, 15))):
        if rng.random() < 0.08:
            continue
        radians = np.deg2rad(angle)
        at = (
            int(centre[0] + axes[0] * np.cos(radians)),
            int(centre[1] + axes[1] * np.sin(radians)),
        )
        is_front = abs(angle - 90) < 40
        shape = (int(rng.integers(9, 13)), int(rng.integers(12, 16)) if is_front else 14)
        cv2.ellipse(canvas, at, shape, float(angle), 0, 360, grey * rng.uniform(0.85, 1.0), -1)
        cv2.ellipse(canvas, at, (3, 4), float(angle), 0, 360, grey * 0.55, -1)


def cbct_slice(rng: np.random.Generator) -> Pixels:
    """Draw an axial slice through a jaw, or a cross-section of one, as a CBCT viewer shows it."""
    size = 340
    canvas = np.full((size, size), 0.18, np.float32)
    centre = (size // 2 + int(rng.integers(-12, 13)), int(rng.integers(110, 150)))
    if rng.random() < 0.6:
        _fill(canvas, _ellipse((size // 2, size // 2), (150, 140)), 0.14)
        axes = (int(rng.integers(75, 95)), int(rng.integers(95, 125)))
        upper = 180 if rng.random() < 0.8 else 0
        cv2.ellipse(canvas, (centre[0], 230), axes, 0, upper, upper + 180, 0.5, 34)
        cv2.ellipse(canvas, (centre[0], 230), (axes[0] + 17, axes[1] + 17), 0, 180, 360, 0.8, 3)
        cv2.ellipse(canvas, (centre[0], 230), (axes[0] - 17, axes[1] - 17), 0, 180, 360, 0.75, 3)
        flipped = np.flipud(canvas).copy()
        _teeth_on_end(rng, flipped, (centre[0], size - 230), axes, 1.0)
        canvas = np.flipud(flipped).copy()
        _fill(canvas, _ellipse((size // 2, 290), (22, 18)), 0.35)
    else:
        width, height = int(rng.integers(26, 44)), int(rng.integers(70, 110))
        _fill(canvas, _ellipse(centre, (width + 50, height + 45)), 0.12)
        _ring(canvas, (centre[0], centre[1] + 40), (width, height), 0.5, 5)
        _fill(canvas, _ellipse((centre[0], centre[1] + 40), (width - 4, height - 4)), 0.12)
        _fill(canvas, _ellipse((centre[0], centre[1] - 30), (14, 62)), 0.4)
        _fill(canvas, _ellipse((centre[0], centre[1] - 30), (3, 44)), -0.3)
        _fill(canvas, _ellipse((centre[0], centre[1] + 100), (8, 8)), -0.1)
    if rng.random() < 0.4:  # streaks from metal
        for angle in rng.uniform(0, np.pi, 8):
            at = np.array([rng.uniform(90, 250), rng.uniform(90, 200)])
            end = at + 220 * np.array([np.cos(angle), np.sin(angle)])
            cv2.line(canvas, at.astype(int).tolist(), end.astype(int).tolist(), 0.7, 1)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(1.0, 2.2))
    canvas += rng.normal(0, rng.uniform(0.02, 0.07), canvas.shape).astype(np.float32)
    if rng.random() < 0.6:
        inside = np.zeros_like(canvas)
        cv2.circle(inside, (size // 2, size // 2), size // 2 - 4, 1.0, -1)
        canvas = np.where(inside > 0, canvas, float(rng.choice([0.0, 0.15])))
    return _as_bytes(canvas)


def render(rng: np.random.Generator) -> Pixels:
    """Shade an arch of bumps from one side, as a viewer of surface scans does."""
    rows, cols = int(rng.integers(260, 380)), int(rng.integers(300, 440))
    height = np.zeros((rows, cols), np.float32)
    centre, axes = (cols // 2, int(rows * 0.15)), (int(cols * 0.34), int(rows * 0.66))
    cv2.ellipse(height, centre, axes, 0, 0, 180, 30.0, int(rng.integers(50, 70)))
    height = cv2.GaussianBlur(height, (0, 0), 9)
    teeth = np.zeros_like(height)
    _teeth_on_end(rng, teeth, centre, axes, 26.0)
    height += cv2.GaussianBlur(teeth, (0, 0), rng.uniform(2.5, 4.5))
    dy, dx = np.gradient(height)
    light = rng.normal(0, 0.5, 2)
    shade = (1 - dx * light[0] - dy * light[1]) / np.sqrt(1 + dx**2 + dy**2)
    shade = np.where(height > 3, shade, rng.choice([-0.5, 1.2]))
    return _as_bytes(np.asarray(np.rot90(shade, int(rng.integers(0, 4))), np.float32))


def mouth_photo(rng: np.random.Generator) -> Pixels:
    """Draw teeth in gums as a camera sees them: bright crowns with highlights, no roots."""
    rows, cols = int(rng.integers(240, 320)), int(rng.integers(320, 460))
    canvas = 0.34 + 0.08 * _cloud(rng, (rows, cols), 40) + 0.02 * _cloud(rng, (rows, cols), 4)
    middle = rows // 2 + int(rng.integers(-20, 21))
    _fill(canvas, _ellipse((cols // 2, middle), (cols // 2 - 20, rows // 3)), 0.08)
    gap = int(rng.integers(0, 24))
    _fill(canvas, _ellipse((cols // 2, middle), (cols // 2 - 40, max(gap, 4))), -0.34)
    count = int(rng.integers(6, 10))
    for sign in (-1, 1):
        x = cols * 0.1
        for number in range(count):
            near = 1 - abs(number - (count - 1) / 2) / count
            width = cols * 0.8 / count * (0.8 + 0.4 * near)
            tall = rows * 0.2 * (0.7 + 0.5 * near)
            at = (int(x + width / 2), int(middle + sign * (gap + tall / 2) * 0.9))
            axes = (int(width / 2 - 1), int(tall / 2))
            cv2.ellipse(canvas, at, axes, 0, 0, 360, 0.8 + 0.1 * rng.random(), -1)
            if rng.random() < 0.6:
                cv2.ellipse(canvas, at, (max(axes[0] // 4, 1), axes[1] // 3), 0, 0, 360, 1.0, -1)
            x += width
    return _as_bytes(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.6, 2.0)))


def noise(rng: np.random.Generator) -> Pixels:
    """Draw noise of a random grain, sometimes on a gradient."""
    rows, cols = (int(v) for v in rng.integers(120, 400, 2))
    grain = int(rng.choice([1, 2, 6, 20, 60]))
    field = rng.normal(0, 1, (rows // grain + 2, cols // grain + 2)).astype(np.float32)
    field = cv2.resize(field, (cols, rows), interpolation=cv2.INTER_CUBIC)
    ramp = np.linspace(0, rng.uniform(0, 4), cols, dtype=np.float32)[None]
    scaled = cv2.normalize(field + ramp, np.zeros_like(field), 0, 255, cv2.NORM_MINMAX)
    result: Pixels = scaled.astype(np.uint8)
    return result


def page(rng: np.random.Generator) -> Pixels:
    """Draw a page, a form or a chart with lines of text."""
    rows, cols = int(rng.integers(250, 600)), int(rng.integers(250, 600))
    paper = int(rng.integers(180, 256))
    canvas = np.full((rows, cols), paper, np.uint8)
    y = 20
    while y < rows - 10:
        text = "".join(rng.choice(list("abcdefghijklmnop rstuvw 0123456789")) for _ in range(60))
        cv2.putText(canvas, text, (10, y), int(rng.integers(0, 4)), rng.uniform(0.3, 0.7), 20, 1)
        y += int(rng.integers(12, 40))
    if rng.random() < 0.5:
        cv2.rectangle(canvas, (5, 5), (cols - 8, rows // 3), 60, 2)
    return 255 - canvas if rng.random() < 0.4 else canvas


def shapes(rng: np.random.Generator) -> Pixels:
    """Draw soft and hard geometric shapes: test patterns, phantoms, collimators."""
    rows, cols = (int(v) for v in rng.integers(150, 500, 2))
    canvas = np.full((rows, cols), int(rng.integers(0, 120)), np.uint8)
    for _ in range(int(rng.integers(1, 12))):
        at = (int(rng.integers(0, cols)), int(rng.integers(0, rows)))
        grey = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            axes = (int(rng.integers(5, cols // 2)), int(rng.integers(5, rows // 2)))
            cv2.ellipse(canvas, at, axes, float(rng.uniform(0, 180)), 0, 360, grey, -1)
        else:
            end = (int(rng.integers(0, cols)), int(rng.integers(0, rows)))
            cv2.rectangle(canvas, at, end, grey, int(rng.choice([-1, 1, 4])))
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(1, 12))
    return canvas


def _ellipse(centre: tuple[int, int], axes: tuple[int, int]) -> Pixels:
    return np.array(cv2.ellipse2Poly(centre, axes, 0, 0, 360, 6))


def _fill(canvas: Pixels, points: Pixels, grey: float) -> None:
    layer = np.zeros_like(canvas)
    cv2.fillPoly(layer, [np.asarray(points, np.int32)], grey)
    canvas += cv2.GaussianBlur(layer, (0, 0), 1.5)


def _ring(
    canvas: Pixels, centre: tuple[int, int], axes: tuple[int, int], grey: float, width: int
) -> None:
    layer = np.zeros_like(canvas)
    cv2.ellipse(layer, centre, axes, 0, 0, 360, grey, width)
    canvas += cv2.GaussianBlur(layer, (0, 0), 1.5)


def _blend(canvas: Pixels, patch: Pixels, left: int, top: int) -> None:
    rows, cols = patch.shape
    fade = np.minimum(np.minimum(np.arange(rows)[:, None], np.arange(cols)[None, :]), 12)
    back = np.minimum(np.minimum(np.arange(rows)[::-1, None], np.arange(cols)[None, ::-1]), 12)
    weight = (np.minimum(fade, back) / 12).astype(np.float32)
    part = canvas[top : top + rows, left : left + cols]
    part += weight[: part.shape[0], : part.shape[1]] * 0.6 * patch[: part.shape[0], : part.shape[1]]


def _cloud(rng: np.random.Generator, shape: tuple[int, int], grain: int) -> Pixels:
    rows, cols = shape
    field = rng.normal(0, 1, (rows // grain + 2, cols // grain + 2)).astype(np.float32)
    cloud: Pixels = cv2.resize(field, (cols, rows), interpolation=cv2.INTER_CUBIC)
    return cloud


def _as_bytes(canvas: Pixels) -> Pixels:
    low, high = np.percentile(canvas, (0.5, 99.8))
    scaled: Pixels = np.clip((canvas - low) / max(high - low, 1e-3), 0, 1) * 255
    return scaled.astype(np.uint8)
