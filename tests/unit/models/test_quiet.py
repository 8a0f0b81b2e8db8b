"""Importing the model libraries changes nothing for the rest of the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CODE = """
import sys, torch
before = torch.compiler.disable
from searchanything.models import quiet
with quiet._without_compiler():
    @torch.compiler.disable
    def plain(x): return x + 1
    @torch.compiler.disable(recursive=False)
    def given(x, *, y): return x + y
quiet.import_torchvision(), quiet.import_open_clip()
import timm
early = [name for name in sys.modules if name.startswith("torch._dynamo")]
others = ("transformers", "torchvision.models", "torchvision.datasets")
print(early, [name for name in others if name in sys.modules], torch.compiler.disable is before)
print(plain(1), given(1, y=2), "torch._dynamo" in sys.modules, plain.__name__)
from torchvision.ops import roi_align
import torch._dynamo.utils
real = torch._dynamo.utils.__file__ is not None
answers = quiet._is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
print(real, answers, "ultralytics" in sys.modules, "cv2" in sys.modules)
import torchvision
from torchvision.datasets import VisionDataset
print(torchvision.models.resnet18(weights=None).fc.out_features, VisionDataset is torchvision.datasets.VisionDataset)
import transformers, open_clip
print(open_clip.hf_model.AutoConfig.for_model("bert").model_type, hasattr(transformers, "AutoModel"))
"""
ENCODING = """
import numpy as np
from searchanything import wiring
from searchanything.core.settings import Settings
from searchanything.encode.encoder import Stopwatch
settings = Settings(_env_file=None)
encoder = wiring.load_encoder("pico", wiring.hash_layer_of("pico", None, settings), settings)
wiring.load_models(encoder, Stopwatch())
image = np.random.default_rng(7).integers(0, 256, (240, 320, 3), dtype=np.uint8)
image[40:200, 60:180] = (200, 30, 30)
encoded = encoder.encode_images([image])[0]
words = encoder.embedder.embed_texts(["a red square"])
codes = [code.tobytes().hex() for code in (*encoded.codes, encoded.image_code)]
"""
QUESTION = f"""
import json, sys
from searchanything.core.put_off import answer_questions_only
answer_questions_only()
{ENCODING}
unwanted = ("torch._dynamo", "torch._meta_registrations", "torch.distributions", "transformers", "sympy", "pandas")
print(json.dumps([codes, words.tobytes().hex()]))
print(*(name for name in unwanted if name in sys.modules))
"""


def test_the_model_libraries_come_without_torch_s_compiler_which_others_get_whole() -> None:
    """What libraries ask of the compiler is put off until they use it."""
    answer = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert answer.stdout.splitlines() == [
        "[] [] True",
        "2 3 True plain",
        "True True False False",
        "1000 True",
        "bert True",
    ]


def test_a_process_for_questions_leaves_out_more_and_gives_the_same_codes() -> None:
    answer = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True, check=True)
    question, loaded = answer.stdout.splitlines()
    here: dict[str, Any] = {}
    exec(ENCODING, here)  # noqa: S102  in this process, which leaves nothing out
    assert json.loads(question) == [here["codes"], here["words"].tobytes().hex()]
    assert len(here["codes"]) > 1
    assert loaded == ""


def test_what_torchvision_imports_of_torch_stays_put_off_as_well(tmp_path: Path) -> None:
    """The one of torch 2.6 does, and there the part that was put off cannot be imported after torch itself."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("import torch._meta_registrations\n")
    code = f"""
import sys
from searchanything.core.put_off import answer_questions_only
from searchanything.models import quiet
answer_questions_only()
quiet.import_torch()
sys.path.insert(0, {str(tmp_path)!r})
print(quiet.import_torchvision().__file__, "torch._meta_registrations" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [str(tmp_path / "torchvision" / "__init__.py"), "False"]
