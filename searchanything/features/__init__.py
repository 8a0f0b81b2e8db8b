"""Features of indexed regions, kept in Parquet files, so that training and hashing again need no model.

    encode ─► keep (before the commit) ─► one file per batch ─► compact: merge small files, drop what is deleted
                                                 │
                              hash train, hash encode, status

The index is the state here, too: a region's features are current where the index has its image in the generation that
the features were kept by. Files are only ever added and deleted, never changed, each under a name of its own.
"""
