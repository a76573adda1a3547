"""Pictures drawn for the tests: a scene with a top and a left, so that turning or
mirroring shows.
"""

from __future__ import annotations

import io

from PIL import Image, ImageChops, ImageDraw, ImageStat


def scene(width=400, height=300):
    """A smooth sky, with a red square in the upper left corner, a blue one in the lower right, and
    fine lines.
    """
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (across, down, ImageChops.invert(across)))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width // 4, height // 4), fill="red")
    draw.rectangle((width * 3 // 4, height * 3 // 4, width, height), fill="blue")
    for x in range(width // 2, width * 3 // 4, max(8, width // 50)):
        draw.line((x, 0, x, height), fill="white", width=max(2, width // 200))
    return picture


def saved(picture, kind="JPEG", **options):
    """The picture as a file in memory."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    out.seek(0)
    return out


def difference(one, other):
    """Mean difference per channel, 0 to 255, of two pictures of one size, over green where they are
    transparent.
    """
    assert one.size == other.size
    one, other = (over_green(picture) for picture in (one, other))
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def over_green(picture):
    green = Image.new("RGBA", picture.size, (0, 255, 0, 255))
    return Image.alpha_composite(green, picture.convert("RGBA")).convert("RGB")


def moving(count=6, size=(300, 200), background=(200, 220, 255, 255)):
    """The frames of a ball that crosses the picture."""
    frames = []
    for number in range(count):
        frame = Image.new("RGBA", size, background)
        left = number * size[0] // (count + 1)
        ImageDraw.Draw(frame).ellipse(
            (left, 50, left + 80, 130), fill=(255, number * 20 % 256, 0, 255)
        )
        frames.append(frame)
    return frames
