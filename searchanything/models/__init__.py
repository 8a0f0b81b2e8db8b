"""Adapters to the model libraries; the only place that imports torch."""
