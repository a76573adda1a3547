"""Errors of a picture. Another try can't mend them."""

from __future__ import annotations

from relevo.errors import RelevoError


class ImageError(RelevoError, ValueError):
    """A file is not an image that can be processed."""


class NotAnImageError(ImageError):
    """The file is not an image of a kind that can be processed."""
