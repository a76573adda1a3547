"""Makes the versions of a picture. Pure: no queue, no database, no disk; a file object in, bytes
out.

- `errors.py`     errors of a picture, which no other try can mend
- `sizes.py`      the requested sizes, checked
- `reader.py`     opens a picture: is it of a kind and a size that we take, and undamaged?
- `colour.py`     converts every colour mode and profile to sRGB (or grey) of 8 bits
- `resizer.py`    decodes a picture once, and makes each size from the next larger one
- `animation.py`  the same for every frame of an animation
- `encoder.py`    writes the bytes of each kind, without metadata
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
