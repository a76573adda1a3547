"""The demo's pictures: the files of a folder, or a dozen of different kinds, drawn one by one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, ImageChops, ImageDraw

#: A scene is drawn at a fraction of its size and then enlarged, which is several times as fast.
SCENE_DIVISOR = 4

Opener = Callable[[], BinaryIO]


def in_folder(folder: Path) -> Iterator[tuple[str, Opener]]:
    """Every file below `folder`, by its relative name. Links to files are followed; links to
    folders are not, since they may form a circle. The job finds out whether a file is a picture.
    """
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():  # opening a pipe or a device may wait for ever
                yield str(path.relative_to(folder)), lambda path=path: path.open("rb")


def drawn(scale: float = 1) -> Iterator[tuple[str, Opener]]:
    """A dozen drawn pictures. A `scale` below 1 makes them smaller."""
    for name, draw in _DOZEN.items():
        yield name, lambda draw=draw: draw(scale)


def _scene(width: int, height: int, scale: float) -> Image.Image:
    """Hills under an evening sky, with the grain of a camera."""
    size = max(8, round(width * scale)), max(8, round(height * scale))
    hills = _hills(width, height, scale / SCENE_DIVISOR).resize(size, Image.Resampling.BILINEAR)
    grain = Image.effect_noise((512, 512), 30).resize(size, Image.Resampling.NEAREST)
    return Image.blend(hills, Image.merge("RGB", (grain, grain, grain)), 0.08)


def _hills(width: int, height: int, scale: float) -> Image.Image:
    width, height = max(8, round(width * scale)), max(8, round(height * scale))
    sky = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (sky, ImageChops.multiply(sky, sky), ImageChops.invert(sky)))
    draw = ImageDraw.Draw(picture)
    draw.ellipse(
        (width * 0.62, height * 0.15, width * 0.62 + height * 0.2, height * 0.35), fill="#ffe9a8"
    )
    for number in range(4):
        left, top = width * (number * 0.3 - 0.35), height * (0.5 + number * 0.1)
        draw.ellipse(
            (left, top, left + width * 0.9, top + height),
            fill=(30 + 20 * number, 80 - 12 * number, 60),
        )
    return picture


def _saved(picture: Image.Image, kind: str, **options: object) -> BinaryIO:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    out.seek(0)
    return out


def _turned(scale: float) -> BinaryIO:
    """A photograph of a telephone held upright: stored on its side, with an EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return _saved(
        _scene(3000, 4000, scale).transpose(Image.Transpose.ROTATE_90),
        "JPEG",
        quality=90,
        exif=exif,
    )


def _logo(scale: float) -> BinaryIO:
    edge = round(1600 * scale)
    near, far = edge // 8, edge * 7 // 8
    picture = Image.new("RGBA", (edge, edge), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rounded_rectangle((near, near, far, far), edge // 6, "#0a7d5a")
    return _saved(picture, "PNG")


def _bouncing(scale: float) -> BinaryIO:
    still = _hills(480, 300, scale)
    frames = [still.copy() for _ in range(8)]
    for number, frame in enumerate(frames):
        left, top = (
            frame.width * number // 9,
            frame.height // 2 - abs(number % 6 - 3) * frame.height // 10,
        )
        ImageDraw.Draw(frame).ellipse(
            (left, top, left + frame.width // 8, top + frame.width // 8), fill="#e4002b"
        )
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)


def _deep(scale: float) -> BinaryIO:
    grey = _scene(2400, 1800, scale).convert("L").convert("I").point(lambda value: value * 257)
    return _saved(grey.convert("I;16"), "TIFF")


def _cut_short(scale: float) -> BinaryIO:
    whole = _saved(_scene(2000, 1500, scale), "JPEG").read()
    return io.BytesIO(whole[: len(whole) // 2])


_DOZEN: dict[str, Callable[[float], BinaryIO]] = {
    "camera 24 megapixels.jpg": lambda scale: _saved(_scene(6000, 4000, scale), "JPEG", quality=92),
    "telephone, upright.jpg": _turned,
    "panorama.jpg": lambda scale: _saved(
        _scene(9000, 1500, scale), "JPEG", quality=88, progressive=True
    ),
    "for the printer (CMYK).jpg": lambda scale: _saved(
        _scene(3000, 2000, scale).convert("CMYK"), "JPEG"
    ),
    "logo on nothing.png": _logo,
    "screenshot.png": lambda scale: _saved(_hills(2560, 1440, scale), "PNG", compress_level=1),
    "palette.gif": lambda scale: _saved(_scene(1200, 900, scale).quantize(64), "GIF"),
    "bouncing.gif": _bouncing,
    "x-ray of 16 bits.tiff": _deep,
    "from the web.webp": lambda scale: _saved(_scene(2000, 1333, scale), "WEBP"),
    "modern.avif": lambda scale: _saved(_scene(1200, 800, scale), "AVIF", speed=9),
    "broken, cut short.jpg": _cut_short,
}
