"""The flow `index` names where its errors are kept, so that Prefect's server need not be asked."""

from __future__ import annotations

import prefect.results
import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import get_result_store
from prefect.settings import PREFECT_API_URL, get_current_settings
from prefect.settings.context import temporary_settings

from searchanything_flows.index import index


def test_a_run_of_index_does_not_ask_the_server_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(prefect.results, "_read_server_default_result_storage_block_id", lambda: asked.append(True))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        get_result_store().update_for_flow(index.with_options(result_storage=None), _sync=True)  # type: ignore[call-arg]
        assert asked == [True]
        store = get_result_store().update_for_flow(index, _sync=True)  # type: ignore[call-arg]
    assert asked == [True]
    assert isinstance(store.result_storage, LocalFileSystem)
    assert store.result_storage.basepath == str(get_current_settings().results.local_storage_path)
