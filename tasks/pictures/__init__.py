"""From the bytes of a picture to its versions. Pure: no queue, no database, no disk; a file object
in, bytes out.

- `errors.py`     what no other try will mend
- `sizes.py`      which sizes are asked for, and whether that makes sense
- `reading.py`    is it a picture, of a kind and a size that we take, and undamaged?
- `colour.py`     every colour mode and profile becomes plain sRGB (or grey) of 8 bits
- `shrinking.py`  one decoded picture, each size from the next larger
- `moving.py`     the same for every frame of an animation
- `writing.py`    the bytes of each kind, without metadata
- `versions.py`   all of it, in order
"""

from tasks.pictures.errors import ImageError, NotAnImageError
from tasks.pictures.reader import MAX_PIXELS
from tasks.pictures.sizes import DEFAULT_SIZES, validate_sizes
from tasks.pictures.versions import Version, make_versions

__all__ = [
    "DEFAULT_SIZES",
    "MAX_PIXELS",
    "ImageError",
    "NotAnImageError",
    "Version",
    "make_versions",
    "validate_sizes",
]
