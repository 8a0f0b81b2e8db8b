"""An image's way to codes: segment, select, pool, crop, embed, hash. The same for ingest and query."""
