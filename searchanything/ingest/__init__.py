"""From a bucket to the index: plan, pipeline, commit, sync, garbage collection."""
