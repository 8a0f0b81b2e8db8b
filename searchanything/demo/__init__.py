"""The demo: pictogram scenes in a real bucket, searched and judged."""
