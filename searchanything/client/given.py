"""The types of what a client is given and gives back, for its signatures alone.

Most of them lie where their work is done, beside what takes long to load, so a client does not import this module: it
names it by a `LazyModule`, and `typing.get_type_hints` (pydantic, FastAPI, makers of documentation) finds the types.
"""

from searchanything.answers.combined import CombinedResults
from searchanything.answers.comparison import Comparison
from searchanything.answers.duplicates import Duplicates
from searchanything.answers.receipts import Replay
from searchanything.answers.results import SearchResults, Segments
from searchanything.backup.backup import BackupReport
from searchanything.client.client import Client
from searchanything.client.combining import PartInput
from searchanything.client.hash_layers import HashLayers
from searchanything.client.model_change import Models
from searchanything.client.operations import Operations
from searchanything.client.standing_queries import StandingQueries
from searchanything.client.stored_questions import StoredInput
from searchanything.core.settings import Settings
from searchanything.features.compact import Compaction
from searchanything.features.status import CacheStatus
from searchanything.images.inputs import ImageInput
from searchanything.images.scopes import Patterns

__all__ = [
    "BackupReport",
    "CacheStatus",
    "Client",
    "CombinedResults",
    "Compaction",
    "Comparison",
    "Duplicates",
    "HashLayers",
    "ImageInput",
    "Models",
    "Operations",
    "PartInput",
    "Patterns",
    "Replay",
    "SearchResults",
    "Segments",
    "Settings",
    "StandingQueries",
    "StoredInput",
]
