"""Ids to text as they come: together what Hugging Face makes of all of them, no piece with half a character; and where a text ends."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mesp.export.bundle.export import _write_model
from mesp.export.bundle.make_plan import make_plan
from mesp.export.bundle.mobile import write_mobile
from mesp.export.bundle.stops import stop_tokens
from mesp.export.export_settings import ExportSettings
from mesp.export.model.checkpoint import open_checkpoint
from mesp.runtime.errors import UsageError
from mesp.runtime.generation.decoding import Spelling, StreamDecoder, read_stops

from .android_golden import TEXTS
from .models import LLAMA, save_checkpoint
from .test_data import CHATML, save_tokenizer
from .test_masks import TEMPLATES

PLAIN = [text for text in TEXTS if not text.startswith("a\U00040000")]
SPACE = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def save_sentencepiece(folder: Path, *more: Any) -> None:
    """Bytes, ASCII and some of the texts' characters are tokens, and a special token and one that is only added."""
    characters = sorted({c for text in TEXTS for c in text if ord(c) < 128 and c != " "} | set("é你▁"))
    words = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token="<s>", byte_fallback=True))
    prepend = [normalizers.Prepend("▁")] if more else []
    tokenizer.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([*SPACE, *more])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</s>", special=True)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


SAVED: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda folder: save_tokenizer(folder, template=CHATML),
    "characters": save_sentencepiece,
    "characters after a space": lambda folder: save_sentencepiece(folder, decoders.Strip(" ", 1, 0)),
}


def streamed(spelling: Spelling, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(spelling)
    return [*map(decoder.add, ids), decoder.finish()]


@pytest.mark.parametrize("kind", SAVED)
def test_the_pieces_are_together_what_hugging_face_decodes(kind: str, tmp_path: Path) -> None:
    SAVED[kind](tmp_path)
    tokenizer, spelling, draw = AutoTokenizer.from_pretrained(tmp_path), Spelling(tmp_path), random.Random(0)
    special = tokenizer.all_special_ids
    for text in PLAIN:
        ids = [
            number
            for token in tokenizer(text)["input_ids"]
            for number in ([token, draw.choice(special)][: draw.choice((1, 1, 2))])
        ]
        pieces = streamed(spelling, ids)
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert "\ufffd" not in "".join(pieces[:-1]) or "\ufffd" in text
    if kind == "bytes":  # random tokens: of those that are no characters every tokenizer of bytes makes the same
        for _ in range(300):
            ids = [draw.randrange(len(tokenizer) + 2) for _ in range(draw.randrange(20))]
            assert "".join(streamed(spelling, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_of_several_tokens_is_one_piece_and_half_a_one_is_replaced_at_the_end(tmp_path: Path) -> None:
    save_sentencepiece(tmp_path)
    spelling, tokenizer = Spelling(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    smile: Any = tokenizer.convert_tokens_to_ids([f"<0x{byte:02X}>" for byte in "👍".encode()])
    assert streamed(spelling, [*smile, *smile[:2]]) == ["", "", "", "👍", "", "", "\ufffd"]
    a: Any = tokenizer.convert_tokens_to_ids("a")
    assert streamed(spelling, [smile[0], a]) == ["", "\ufffda", ""]
    ends: Any = tokenizer.convert_tokens_to_ids(["<think>", "</s>"])
    think, end = ends
    assert streamed(spelling, [think, end, 9_999]) == ["<think>", "", "", ""]


def test_the_space_before_a_text_is_left_out_and_no_other(tmp_path: Path) -> None:
    save_sentencepiece(tmp_path, decoders.Strip(" ", 1, 0))
    spelling, tokenizer = Spelling(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    tokens: Any = tokenizer.convert_tokens_to_ids(["▁", "a", "</s>"])
    space, a, end = tokens
    assert streamed(spelling, [end, space, space, a, space, a]) == ["", "", " ", "a", " ", "a", ""]
    assert streamed(spelling, [a, space, a]) == ["a", " ", "a", ""]


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        Spelling(tmp_path)
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UsageError, match="by WordPiece, which mesp does not know"):
        Spelling(tmp_path)


ENDS = {
    "qwen2_5": "<|im_end|>",
    "llama3_1": "<|eot_id|>",
    "gemma3": "<end_of_turn>",
    "lfm2": "<|im_end|>",
    "phi3": "<|end|>",
}


@pytest.mark.parametrize("name", [name for name in ENDS if (TEMPLATES / f"{name}.jinja").exists()])
def test_a_text_ends_where_the_template_ends_a_turn(name: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=(TEMPLATES / f"{name}.jinja").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"additional_special_tokens": [ENDS[name]]})
    end = tokenizer.convert_tokens_to_ids(ENDS[name])
    assert stop_tokens(tokenizer, [7, 3]) == sorted({3, 7, tokenizer.eos_token_id, end})
    tokenizer.chat_template = "{{ messages[0].nothing.at_all }}"
    assert stop_tokens(tokenizer, None) == [tokenizer.eos_token_id]


def test_a_bundle_knows_every_end_of_the_settings_of_generation(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", **LLAMA)
    save_tokenizer(tmp_path / "model", template=CHATML)
    settings = tmp_path / "model" / "generation_config.json"
    settings.write_text(json.dumps({"eos_token_id": [90, 91], "temperature": 0.6}))
    checkpoint = open_checkpoint(str(tmp_path / "model"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    _write_model(folder, make_plan(checkpoint.config, ExportSettings(seq_len=(8,))), checkpoint, checkpoint.tokenizer())
    tokenizer = checkpoint.tokenizer()
    assert tokenizer is not None
    turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert set(read_stops(folder / "tokenizer")) >= {90, 91, tokenizer.eos_token_id, turn}
    settings.write_text('{"eos_token_id": ["</s>"]}')
    with pytest.raises(UsageError, match=r"generation_config\.json: eos_token_id is '</s>', but must be"):
        open_checkpoint(str(tmp_path / "model"))


def test_a_bundle_of_an_earlier_mesp_is_to_be_exported_again(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    write_mobile(tmp_path)
    file = tmp_path / "mobile.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "generation"}))
    with pytest.raises(UsageError, match="Export the bundle again"):
        read_stops(tmp_path)
