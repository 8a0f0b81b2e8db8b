"""The borders of the product: what a model, an index and an image store must do.

The pipeline sees nothing but these. Each has at least two implementations, and one contract suite in `tests/`.
"""

from searchanything.core.protocols.indexes import IndexStore, RegionIndex
from searchanything.core.protocols.models import (
    FeatureMap,
    Hasher,
    RegionEncoder,
    Segmentation,
    Segmenter,
    WordsHasher,
)
from searchanything.core.protocols.storage import (
    ChangeEvents,
    FeatureKeeper,
    FileStore,
    ImageFeatures,
    ImageStore,
    Opener,
    StoredFile,
    WritableBucket,
)

__all__ = [
    "ChangeEvents",
    "FeatureKeeper",
    "FeatureMap",
    "FileStore",
    "Hasher",
    "ImageFeatures",
    "ImageStore",
    "IndexStore",
    "Opener",
    "RegionEncoder",
    "RegionIndex",
    "Segmentation",
    "Segmenter",
    "StoredFile",
    "WordsHasher",
    "WritableBucket",
]
