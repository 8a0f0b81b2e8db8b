"""Prefect's flows, thin: the logic is in `searchanything.service`. The only place that imports Prefect.

In a wheel this package is called `searchanything_flows`; in a checkout a link of that name leads here.
"""
