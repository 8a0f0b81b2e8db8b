"""Training, judging and importing hash layers, from features alone: no model, no labels.

    features (.npy, .parquet, s3://) ──► sample + moments ──► standardise ──► deep | itq | pca-rotation | lsh ──► layer
                                             └── held-out rows ──► judgement: table, JSON, HTML

`training.train_hash` takes any iterable of feature batches; the command line is `searchanything hash`.
"""
