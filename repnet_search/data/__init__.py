"""Labelled images: the embedded digits and a user's folders, in splits that no seed changes."""

from __future__ import annotations

from repnet_search.data.create import create_source
from repnet_search.data.digits import EmbeddedDigits
from repnet_search.data.folders import ImageFolders
from repnet_search.data.source import DataSource, ImageSet, Split

__all__ = ["DataSource", "EmbeddedDigits", "ImageFolders", "ImageSet", "Split", "create_source"]
