"""Whatever is done to a library and its index, in whatever order: after each step it holds what a plain account says.

`SEARCHANYTHING_CHAOS_EXAMPLES=1000 pytest tests/chaos/test_library_histories.py` looks for new histories.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.library import NEW, OLD, Library, explained
from chaos.library_effects import Act
from chaos.library_files import CONTENTS, KEYS, SHELVES, save_unlike
from chaos.processes_in_memory import Fate, Processes
from fakes.hash_layers import layer_file
from fakes.two_presets import TwoPresets
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from searchanything.stores.memory import MemoryIndexStore

EXAMPLES = int(os.environ.get("SEARCHANYTHING_CHAOS_EXAMPLES", "0"))
STEPS = int(os.environ.get("SEARCHANYTHING_CHAOS_STEPS", "10"))
keys = st.sampled_from(KEYS)
some_keys = st.lists(keys, min_size=1, max_size=4, unique=True).map(tuple)
file_acts = st.one_of(
    st.builds(lambda *of: Act("write", of), keys, st.sampled_from(CONTENTS)),
    st.builds(lambda *of: Act("remove", of), keys),
    st.builds(lambda *of: Act("rename", of), keys, keys),
    st.builds(lambda *of: Act("touch", of), keys),
    st.builds(lambda *of: Act("label", of), keys, st.sampled_from(SHELVES)),
    st.builds(lambda *of: Act("mount", of), st.sampled_from(["away", "empty", "back"])),
)
index_acts = st.one_of(
    st.builds(lambda *of: Act("index", of), st.sampled_from(["", "force", "prune", "add_words"])),
    st.builds(lambda *of: Act("repair", of), st.booleans()),
    st.builds(lambda *of: Act("refresh", of), some_keys, st.booleans()),
    st.sampled_from([Act("check"), Act("retry"), Act("drop_failed")]),
)
owner_acts = st.one_of(
    st.builds(lambda *of: Act("models", of), st.sampled_from([OLD, NEW])),
    st.builds(lambda *of: Act("hash_layer", of), st.integers(0, 1), st.booleans()),
    st.builds(lambda *of: Act("restore", of), st.integers(0, 3)),
    st.sampled_from([Act(name) for name in ("backup", "delete", "drop_layers", "compact", "other_settings")]),
)
query_acts = st.sampled_from([Act("add"), Act("remove_query"), Act("fetch"), Act("fetch")])
any_act = st.one_of(index_acts, owner_acts, query_acts)
fates = st.builds(
    Fate, dies_at=st.none() | st.integers(1, 20), is_written=st.booleans(), meanwhile_at=st.integers(1, 12)
)


class Bench:
    """What all histories share: the machine, and an index of images that are like nothing."""

    folder: Path
    processes: Processes


class LibraryHistories(RuleBasedStateMachine):
    """What may happen. After each rule the library compares."""

    @initialize(contents=st.lists(st.none() | st.sampled_from(CONTENTS), min_size=len(KEYS), max_size=len(KEYS)))
    def start(self, contents: list[str | None]) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=Bench.folder))
        store = MemoryIndexStore()
        self.library = Library(self.folder, Bench.folder / "unlike", lambda: store, Bench.processes)
        self.library.layers = [layer_file(self.folder / f"{seed}.safetensors", seed=seed) for seed in range(2)]
        with self.library.client(words=True) as client:
            client.index(Bench.folder / "unlike")
        for key, content in zip(KEYS, contents, strict=True):
            if content is not None:
                self.library.files.write(key, content)

    @rule(acts=st.lists(file_acts, min_size=1, max_size=4))
    def change_files(self, acts: list[Act]) -> None:
        for act in acts:
            self.do(act)

    @rule(act=index_acts)
    def index(self, act: Act) -> None:
        self.do(act)

    @rule(act=any_act)
    def act(self, act: Act) -> None:
        self.do(act)

    @rule(acts=st.lists(file_acts, min_size=1, max_size=3), act=index_acts)
    def change_and_index(self, acts: list[Act], act: Act) -> None:
        for one in (*acts, act):
            self.do(one)

    @rule(act=any_act, fate=fates, meanwhile=st.none() | any_act | file_acts)
    def hard_life(self, act: Act, fate: Fate, meanwhile: Act | None) -> None:
        with explained(self.library):
            self.library.do(act, fate, meanwhile)

    @rule()
    def settle(self) -> None:
        with explained(self.library):
            self.library.settled()

    def do(self, act: Act) -> None:
        with explained(self.library):
            self.library.do(act, Fate())

    def teardown(self) -> None:
        if hasattr(self, "library"):
            with explained(self.library):
                self.library.settled()
            self.library.earlier.close()
            shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        TwoPresets().install(patch)
        logging.disable(logging.CRITICAL)
        Bench.folder = tmp_path_factory.mktemp("libraries")
        save_unlike(Bench.folder / "unlike")
        Bench.processes = Processes(patch)
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("bench")
def test_any_history_of_a_library() -> None:
    budget = settings(
        max_examples=EXAMPLES or 8,
        stateful_step_count=STEPS,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # to shrink takes minutes, and what was done is shown
    )
    run_state_machine_as_test(LibraryHistories, settings=budget)
