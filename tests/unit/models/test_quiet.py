"""Importing the model libraries changes nothing for the rest of the process."""

from __future__ import annotations

import subprocess
import sys

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
print(early, torch.compiler.disable is before)
print(plain(1), given(1, y=2), "torch._dynamo" in sys.modules, plain.__name__)
from torchvision.ops import roi_align
import torch._dynamo.utils
real = torch._dynamo.utils.__file__ is not None
answers = quiet._is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
print(real, answers, "ultralytics" in sys.modules, "cv2" in sys.modules)
"""


def test_the_model_libraries_come_without_torch_s_compiler_which_others_get_whole() -> None:
    """What libraries ask of the compiler is put off until they use it."""
    answer = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert answer.stdout.splitlines() == ["[] True", "2 3 True plain", "True True False False"]
