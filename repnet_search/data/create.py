"""The one place that turns an option's path into a data source."""

from __future__ import annotations

from pathlib import Path

from repnet_search.data.digits import EmbeddedDigits
from repnet_search.data.folders import ImageFolders
from repnet_search.data.source import DataSource


def create_source(path: Path | None, *, proxy_images: int | None = None, skip_broken: bool = False) -> DataSource:
    """Returns the images in the folder `path`, or the embedded digits where it is None.

    Args:
        path: DIR with DIR/CLASS/* or DIR/train/CLASS/* in it.
        proxy_images: training and validation images together that are used; None uses all.
        skip_broken: whether files that cannot be used are left out and noted, instead of refused.

    Raises:
        DataError: the folder cannot be used as it is, or proxy_images is too small.
    """
    if path is None:
        return EmbeddedDigits(proxy_images=proxy_images)
    return ImageFolders(path, proxy_images=proxy_images, skip_broken=skip_broken)
