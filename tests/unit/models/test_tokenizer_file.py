"""Tokenizer files, read by the library `tokenizers`, against open_clip's own reading by transformers: offline, both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from searchanything.core.errors import ModelError
from searchanything.models.quiet import hub_offline, import_open_clip
from searchanything.models.text_context import beginning_read
from searchanything.models.tokenizer_file import FileTokenizer

TEXTS = [
    "a red car",
    "  Ein  rotes_Auto, bitte! ",
    "赤い車",
    "красная машина &amp; a very long text " * 12,
    "",
    "Ünïcode — “quoted”",
]
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
CONTEXT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer in the format that Gemma's comes in: BPE with byte fallback, an end token, no first token."""
    letters = sorted(set("".join(TEXTS)) | {"▁"} | set("abcdefghijklmnopqrstuvwxyz"))
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "re", "red", "ca", "car"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("r", "e"), ("re", "d"), ("c", "a"), ("ca", "r")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    end = tokenizer.token_to_id("<eos>")
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", end)])
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**stated, "padding_side": "right"}))
    return folder


@pytest.mark.parametrize("clean", ["canonicalize", "whitespace"])
def test_tokens_are_those_of_open_clip_s_own_tokenizer(folder: Path, clean: str) -> None:
    open_clip = import_open_clip()
    with hub_offline():
        expected = open_clip.tokenizer.HFTokenizer(str(folder), context_length=CONTEXT, clean=clean)(TEXTS).numpy()
    function = open_clip.tokenizer.get_clean_fn(clean)
    ours = FileTokenizer(folder / "tokenizer.json", context=CONTEXT, clean=function)(TEXTS).numpy()
    np.testing.assert_array_equal(ours, expected)
    assert ours.shape == (len(TEXTS), CONTEXT)
    assert ours.dtype == np.int64


def test_what_is_read_of_a_text_is_all_that_the_tokens_depend_on(folder: Path) -> None:
    tokenizer = FileTokenizer(folder / "tokenizer.json", context=CONTEXT, clean=str.strip)
    for text in TEXTS:
        read = beginning_read(tokenizer, text)
        assert text.startswith(read)
        np.testing.assert_array_equal(tokenizer([read]), tokenizer([text]))
        assert (len(read) < len(text)) == (text == TEXTS[3])
    assert (tokenizer([beginning_read(tokenizer, TEXTS[3])[:-1]]) != tokenizer([TEXTS[3]])).any(), "and no more"


def test_a_foreign_file_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is no tokenizer file"):
        FileTokenizer(tmp_path / "tokenizer.json", context=8, clean=str.strip)
    text = (folder / "tokenizer.json").read_text("utf-8").replace("<pad>", "<fill>")
    (tmp_path / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match="no token <pad>"):
        FileTokenizer(tmp_path / "tokenizer.json", context=8, clean=str.strip)


@pytest.mark.parametrize("template", [None, "$A", "<bos> $A <eos>", "<bos> $A", "<eos> $A"])
def test_a_file_that_frames_texts_in_another_way_is_refused(template: str | None, tmp_path: Path, folder: Path) -> None:
    """Gemma's own file has the same vocabulary, begins with <bos> and ends with nothing."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    named = [(name, tokenizer.token_to_id(name)) for name in ("<bos>", "<eos>")]
    document = json.loads(tokenizer.to_str())
    document["post_processor"] = None
    if template is not None:
        tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=named)
        document = json.loads(tokenizer.to_str())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(ModelError, match=r"turns the text a into .*expected no <bos> before it and <eos> after"):
        FileTokenizer(path, context=8, clean=str.strip)
