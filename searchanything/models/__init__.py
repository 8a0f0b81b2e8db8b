"""Adapters to the model libraries; the only place that imports torch but for `hash_training`.

Importing this lets OpenMP threads sleep while they wait, unless the environment says otherwise: by default they spin,
and on a machine that does anything else besides, the models then take several times as long (docs/adr/0006). It must
happen before torch is loaded; a program that has loaded torch before keeps its own setting.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
