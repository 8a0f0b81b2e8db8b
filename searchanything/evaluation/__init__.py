"""Evaluation on annotated images: how well a preset and a hash layer segment, select and retrieve.

    annotations ─► Truth ┐
    images ─► Encoder ───┴─► Evidence, per region and instance ─► rankings ─► values per query ─► means, intervals

Read `docs/evaluation.md` for the protocol, then `running.py`.
"""
