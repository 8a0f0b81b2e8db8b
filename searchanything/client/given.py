"""The types of what a client is given and gives back, for its signatures alone.

Most of them lie where their work is done, beside what takes long to load, so a client does not import this module: it
names it by a `LazyModule`, and `typing.get_type_hints` (pydantic, FastAPI, makers of documentation) finds the types.
"""

from searchanything.answers.combined import CombinedResults as CombinedResults
from searchanything.answers.comparison import Comparison as Comparison
from searchanything.answers.duplicates import Duplicates as Duplicates
from searchanything.answers.receipts import Replay as Replay
from searchanything.answers.results import SearchResults as SearchResults
from searchanything.answers.results import Segments as Segments
from searchanything.backup.backup import BackupReport as BackupReport
from searchanything.client.asking_many import ManyQuestion as ManyQuestion
from searchanything.client.client import Client as Client
from searchanything.client.combining import PartInput as PartInput
from searchanything.client.hash_layers import HashLayers as HashLayers
from searchanything.client.kept_features import KeptFeatures as KeptFeatures
from searchanything.client.model_change import Models as Models
from searchanything.client.operations import Operations as Operations
from searchanything.client.standing_queries import StandingQueries as StandingQueries
from searchanything.client.stored_questions import StoredInput as StoredInput
from searchanything.core.many_answers import ManyAnswer as ManyAnswer
from searchanything.core.settings import Settings as Settings
from searchanything.images.inputs import ImageInput as ImageInput
from searchanything.images.scopes import Patterns as Patterns
