"""Importing the model libraries changes nothing for the rest of the process."""

from __future__ import annotations

import subprocess
import sys

LIBRARIES = """
import sys, torch
before = torch.compiler.disable
from searchanything.models import quiet
quiet.import_torchvision(), quiet.import_open_clip()
import timm
early = [name for name in sys.modules if name.startswith("torch._dynamo")]
put_back = torch.compiler.disable is before
from torchvision.ops import roi_align
import torch._dynamo.utils
real = torch._dynamo.utils.__file__ is not None
answers = quiet._is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
print(early, put_back, real, answers, "ultralytics" in sys.modules, "cv2" in sys.modules)
"""
PUT_OFF = """
import torch
from searchanything.models import quiet
with quiet._without_compiler():
    @torch.compiler.disable
    def plain(x): return x + 1
    @torch.compiler.disable(recursive=False)
    def given(x, *, y): return x + y
import sys
early = "torch._dynamo" in sys.modules
print(early, plain(1), given(1, y=2), "torch._dynamo" in sys.modules, plain.__name__)
"""


def run(code: str) -> str:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return answer.stdout


def test_the_model_libraries_come_without_torch_s_compiler_which_others_get_whole() -> None:
    assert run(LIBRARIES) == "[] True True True False False\n"


def test_what_libraries_ask_of_the_compiler_is_put_off_until_they_use_it() -> None:
    assert run(PUT_OFF) == "False 2 3 True plain\n"
