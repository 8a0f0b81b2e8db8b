"""What the ingestion service is made of, apart from its flows: events, waves, workers, reports and the process tree.

Prefect is not among it: `flows/` alone imports it. `dask` is imported by `cluster`, `fastapi` by `webhook`.
"""
