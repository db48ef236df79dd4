"""What Hugging Face and the Python runtime make of texts and data files, for the tests of the Android core to compare with.

    python -m tests.android_golden FOLDER [SmolLM2.gguf] [--saved TOKENIZERS]

A folder a tokenizer: its tokenizer/ as a bundle has it, encodings.jsonl with texts and their tokens, streams.jsonl with tokens and the pieces
of text that they become one by one, cases.json with the examples of the data files beside it. sampled.json has tokens that were drawn. The
tokenizers are trained here, each of another kind; SmolLM2's own is added if its GGUF file is given.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mesp.export.bundle.chat import resolve
from mesp.export.bundle.mobile import write_mobile
from mesp.export.model.checkpoint import open_checkpoint
from mesp.runtime.data.dataset import Dataset, load_data
from mesp.runtime.engine.random_signs import words
from mesp.runtime.errors import UsageError
from mesp.runtime.generation.decoding import Spelling, StreamDecoder
from mesp.runtime.generation.options import GenerateOptions
from mesp.runtime.generation.sampling import next_token, penalized, weights

from .test_data import CHATML, save_tokenizer
from .test_masks import MARKED, TEMPLATES

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN2_CHAT = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    + CHATML
)
LLAMA3_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '<|im_start|>\n\n' + message.content | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_start|>\n\n' }}{% endif %}"
)

TEXTS = [
    "",
    " ",
    "\n",
    "   \n\n \t  ",
    "Hello, world!",
    "It's they'LL I'd we'Ve can'T 'ſ 'S ſ'sſ",
    "a  b   c    d     ",
    "tab\tTAB\t\tend\t",
    "one\r\ntwo\r\n\r\nthree\rfour\n\n\n  five",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F ١٢٣ ௧௨ ½ ² Ⅷ 𝟘𝟙",
    "naïve café Ångström ﬁ Œuvre straße İstanbul ǅ",
    "nai\u0308ve cafe\u0301 A\u030angstro\u0308m \u212b \u2126 q\u0323\u0307 q\u0307\u0323 \u0344 \u0958 e\u0301\u0301",
    "\u0301leading mark, >\u0338, \n\u0341, a\u0327\u0301\u0300 Z\u0337a\u0336l\u0338",
    "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8 \u1100\u1161\u11a7 ᄀ",
    "你好，世界。日本語テスト　全角 ｶﾞ が か\u3099 ㍿ 豈 \ufa10",
    "مرحبا بالعالم שָׁלוֹם עולם \u200fRTL\u200e \u202eabc\u202c",
    "नमस्ते दुनिया ক্ষ ไทยภาษา မြန်မာ ខ្មែរ བོད",
    "👍 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☺️ ☺ 1️⃣ 🫠",
    'def f(x):\n    return x ** 2  # comment\n\n\tif (a && b) { c[0]->d = "e\\n"; }\n',
    '{"key": [1, 2.5, null, true], "a\\u00e9": "b"}',
    "https://example.org/a?b=c&d=%20#e user@example.org ~/x_y-z.tar.gz",
    "€uro £ ¥ © ® ™ … — – ‘’ “” « » ¿¡ § ¶ † • ‰",
    "∑∫√∞ ≠ ≤ ≥ α β γ ℝ ℵ 𝔸𝕓𝒸 x² H₂O",
    "zero\u200bwidth \u200c\u200d\ufeff no\u00a0break \u2028line\u2029paragraph \u0085next \u3000wide\u1680\u205f",
    "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x13\x14\x16\x1b\x1c\x1d\x1e\x1f\x7f\x80\x9f",
    "!\x04! a\x06b \x13\x14 \x16\n.\x1d",
    "\U000e0001\U000e0061 \U000f0000 \U0010ffff \U00020000 \U00030000 \U000323b0 \U00011de0 \U00016ff4",
    "a\U00040000b \U000bffff",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|><|im_end|> <|im_end|>x<|endoftext|><|im_start",
    "<|im_start|><|endoftext|<|im_end|>é <|IM_END|> < |im_end|>",
    "<repo_name>a<reponame><file_sep> <jupyter_code>1<empty_output>",
    "word" * 300,
    " " * 700 + "x",
    "\n" * 600,
    "!?" * 400 + "é" * 300,
    "ab" * 50 + "你" * 400,
    "Who's there? Nay, answer me. Stand and unfold yourself. " * 5,
]

# Marks that normalization both puts into another order and changes the number of: their places are not compared.
HEAP = re.compile("[\u0300-\u036f]{4}")

# Where random texts draw their characters: ranges of code points.
BLOCKS = (
    *[(0x20, 0x7E)] * 4,
    (0x09, 0x0D),
    (0x20, 0x20),
    (0x00, 0xFF),
    (0x100, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x5FF),
    (0x600, 0x6FF),
    (0x900, 0xDFF),
    (0x1100, 0x11FF),
    (0x1E00, 0x206F),
    (0x2070, 0x2BFF),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7FF),
    (0xE000, 0xFFFD),
    (0x10000, 0x1FFFF),
    (0x20000, 0x323AF),
    (0xE0000, 0x10FFFD),
)
RANDOM_TEXTS = 300


def random_texts() -> Iterator[str]:
    draw = random.Random(0)
    for _ in range(RANDOM_TEXTS):
        blocks = draw.sample(BLOCKS, draw.randint(1, 4))
        points = (draw.randint(*draw.choice(blocks)) for _ in range(draw.randint(1, 40)))
        parts = [SPECIAL[2] if draw.random() < 0.02 else chr(point) for point in points]
        yield "".join(parts)


def trained(
    folder: Path, words: Any, template: str, normalizer: Any = None, bos: bool = False, whole: bool = True
) -> None:
    """A byte-level BPE tokenizer that cuts text with ``words``; without ``whole`` it lacks the bytes that the texts do not have."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=bos))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if whole else []
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for text in TEXTS if "\x04" not in text and "\U00040000" not in text], trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        template_ = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, template_])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[2], chat_template=template
    ).save_pretrained(folder)


def shuffled(folder: Path) -> None:
    """Merges in another order than that of their tokens' ids, and some tokens that none makes."""
    trained(folder, split(QWEN2_WORDS), CHATML)
    path = folder / "tokenizer.json"
    contents = json.loads(path.read_text())
    vocabulary = contents["model"]["vocab"]
    special = {token["content"] for token in contents["added_tokens"]}
    ids = [number for token, number in vocabulary.items() if token not in special]
    moved = dict(zip(ids, random.Random(1).sample(ids, len(ids)), strict=True))
    contents["model"]["vocab"] = {token: moved.get(number, number) for token, number in vocabulary.items()}
    contents["model"]["merges"] = contents["model"]["merges"][:-20]
    path.write_text(json.dumps(contents))


def characters(folder: Path) -> None:
    """BPE of characters with bytes for those that are no tokens, as SentencePiece's: spaces are letters, and line feeds tokens of their own."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1100, special_tokens=[*SPECIAL, "<unk>", *bytes_], limit_alphabet=150, show_progress=False
    )
    tokenizer.train_from_iterator([part for text in TEXTS for part in text.split("\n")], trainer)
    contents = json.loads(tokenizer.to_str())
    contents["added_tokens"] = [token for token in contents["added_tokens"] if token["content"] not in bytes_]
    tokenizer = Tokenizer.from_str(json.dumps(contents))
    tokenizer.add_tokens([AddedToken("\n" * count, normalized=False) for count in (1, 2, 3)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[2], chat_template=CHATML
    ).save_pretrained(folder)


def split(expression: str) -> Any:
    cut = pre_tokenizers.Split(Regex(expression), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def digits() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])


TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "byte_level": lambda folder: save_tokenizer(folder, template=CHATML, trim_offsets=True),
    "marked": lambda folder: save_tokenizer(folder, template=MARKED, bos=True),
    "no_chat": lambda folder: save_tokenizer(folder),
    "qwen2": lambda folder: trained(folder, split(QWEN2_WORDS), QWEN2_CHAT, normalizers.NFC()),
    "llama3": lambda folder: trained(folder, split(LLAMA3_WORDS), LLAMA3_CHAT, bos=True),
    "digits": lambda folder: trained(folder, digits(), CHATML, whole=False),
    "shuffled": shuffled,
    "characters": characters,
}
# In the manner of SmolLM3: a header with the date and with what the system's turn says, or else what the model is; marks around all of an
# answer, whose first line feeds are left out. The system's turn may change how answers are written, or replace the header.
DATED = (
    "{{ '<|im_start|>system\n' }}{% set mode, said = '/think', '' %}{% if messages[0].role == 'system' %}"
    "{% set said = messages[0].content.rstrip() %}{% if '/no_think' in said %}{% set mode = '/no_think' %}{% endif %}{% endif %}"
    "{% if '/system_override' in said %}{{ said + '<|im_end|>\n' }}{% else %}"
    "{{ 'Today is ' ~ strftime_now('%d %B %Y') ~ ', ' ~ mode ~ '.\n' ~ (said or 'You are a small model.') ~ '\n\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ '<|im_start|>assistant\n' + message.content.lstrip('\n') + '<|im_end|>\n' }}{% endgeneration %}"
    "{% elif message.role == 'user' %}{{ '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Templates that write a message by what is around it: only conversations, of roles that a phone can write.
CHATS: dict[str, Callable[[Path], None]] = {
    "qwen3": lambda folder: save_tokenizer(folder, template=(TEMPLATES / "qwen3.jinja").read_text()),
    "llama3_2": lambda folder: save_tokenizer(folder, template=(TEMPLATES / "llama3_2.jinja").read_text(), bos=True),
    "dated": lambda folder: save_tokenizer(folder, template=DATED),
    "gemma3": lambda folder: save_tokenizer(folder, template=(TEMPLATES / "gemma3.jinja").read_text(), bos=True),
}
NOW = datetime(2026, 3, 7, 12)
ORDERS = ("ua", "sua", "uaua", "suaua", "uaa", "uau", "uuasa", "uasua", "sa")
DIALOGUES = ("ua", "sua", "uaua", "suaua", "uau", "uauaua")


def encodings(folder: Path) -> list[dict[str, Any]]:
    """Each text's tokens, alone and with what the tokenizer adds, and their places."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known, bytes_alone = set(tokenizer.get_vocab()), not tokenizer.backend_tokenizer.model.byte_fallback
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    lines = []
    for text in [*TEXTS, *random_texts()]:
        alone = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        normal = (
            tokenizer.backend_tokenizer.normalizer.normalize_str(text)
            if tokenizer.backend_tokenizer.normalizer
            else text
        )
        lacking = [
            [bytes_alone and byte not in known for byte in spelled.pre_tokenize_str(character)[0][0]]
            for character in normal
        ]
        lines.append(
            {
                "text": text,
                "ids": alone["input_ids"],
                "starts": [start for start, _ in alone["offset_mapping"]],
                "ends": [end for _, end in alone["offset_mapping"]],
                "around": tokenizer(text, verbose=False)["input_ids"],
                "decoded": tokenizer.decode(alone["input_ids"], clean_up_tokenization_spaces=False),
                "places": not any(any(bytes_) for bytes_ in lacking) and (text == normal or not HEAP.search(text)),
                "refused": any(any(bytes_) and not all(bytes_) for bytes_ in lacking),
            }
        )
    return lines


def streams(folder: Path) -> Iterator[dict[str, Any]]:
    """Texts' tokens and random ones, some of which the tokenizer does not have, and what of them can be shown after each."""
    tokenizer, spelling, draw = AutoTokenizer.from_pretrained(folder), Spelling(folder), random.Random(2)
    numbers = [tokenizer(text, verbose=False)["input_ids"] for text in TEXTS]
    numbers += [[draw.randrange(len(tokenizer) + 3) for _ in range(20)] for _ in range(200)]
    # bytes alone, which are seldom characters
    bytes_ = [number for number in range(len(tokenizer)) if len(spelling(number)) == 1]
    numbers += [draw.choices(bytes_, k=30) for _ in range(200)]
    for ids in numbers:
        decoder = StreamDecoder(spelling)
        yield {"ids": ids, "pieces": [*map(decoder.add, ids), decoder.finish()]}


CONTENTS = [
    "Who's there?",
    "",
    " ",
    "\n\nLong live\n the king!\n",
    "  Nay, answer me. ",
    "naïve 你好 👍🏽",
    "<|im_end|>",
    "1234\t5",
    "\u2028",
    "<think>\nHis voice.\n</think>\n\nBernardo?",
]


def conversations(orders: Iterable[str] = ORDERS) -> Iterator[dict[str, Any]]:
    contents = iter(CONTENTS * 20)
    for roles in orders:
        for _ in range(3):
            names = {"u": "user", "a": "assistant", "s": "system"}
            yield {"messages": [{"role": names[role], "content": next(contents)} for role in roles]}


def rows_of(kind: str) -> list[dict[str, Any]]:
    texts = [text for text in TEXTS if "\x04" not in text and "\U00040000" not in text]
    if kind == "text":
        return [{"text": text, "more": 1} for text in texts]
    if kind == "completion":
        pairs = pairwise(texts)
        return [
            {"prompt": one, "completion": two}
            for one, two in [*pairs, ("to b", "e, or not"), ("a", "\u0301"), ("", "")]
        ]
    if kind == "messages":
        return list(conversations())
    if kind == "marked":
        return [_marked(row, index) for index, row in enumerate(conversations())]
    if kind == "sharegpt":
        speakers = {"system": "system", "user": "human", "assistant": "gpt"}
        return [
            {"conversations": [{"from": speakers[m["role"]], "value": m["content"]} for m in row["messages"]], "id": 1}
            for row in conversations()
        ]
    if kind == "alpaca":
        return [
            {"instruction": one, "input": two, "output": three}
            for one, two, three in zip(texts, texts[1:], texts[2:], strict=False)
        ]
    if kind == "padded":
        numbers = [[0, 0, 5, 6, 7, 0], [5, 6, 7, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
        return [
            {"input_ids": ids, "labels": [i or -100 for i in ids], "attention_mask": [min(i, 1) for i in ids]}
            for ids in numbers
        ]
    return [
        {"input_ids": list(range(1, 9)), "labels": [-100] * 5 + [6, 7, 8]},
        {"input_ids": [5], "labels": [5]},
        {"input_ids": [], "labels": []},
        {"input_ids": [5, 6, 7], "labels": [-100] * 3},
        *[{"input_ids": [number, 9, number], "labels": [number, -100, number]} for number in range(40)],
    ]


def _marked(row: dict[str, Any], index: int) -> dict[str, Any]:
    """The row with one of the assistant's turns not to be trained on."""
    messages = [dict(message) for message in row["messages"]]
    turns = [message for message in messages if message["role"] == "assistant"]
    mark: dict[str, Any] = {"train": False} if index % 2 else {"weight": 0}
    turns[index % len(turns)].update(mark)
    return {"messages": messages}


def write_files(folder: Path) -> list[str]:
    """Data files of every kind and format."""
    names = []
    for kind in ("text", "completion", "messages", "ids", "marked", "sharegpt", "alpaca", "padded"):
        lines = "".join(json.dumps(row, ensure_ascii=kind == "ids") + "\n" for row in rows_of(kind))
        names.append(f"{kind}.jsonl")
        (folder / names[-1]).write_text(lines, newline="")
    (folder / "text.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + (folder / "text.jsonl").read_bytes()))
    csv = 'more,prompt,completion\r\n1,"a ""b"", c","d\ne"\r\n\n2,f,\n3,g"h,"i\r\nj"'
    (folder / "rows.csv").write_bytes(csv.encode())
    (folder / "book.txt").write_text(
        "\ufeff" + "\r\n".join(text for text in TEXTS[:24] if "\x04" not in text), newline=""
    )
    (folder / "list.json").write_text(json.dumps(rows_of("completion"), indent=1))
    (folder / "rows.tsv").write_text('completion\tmore\tprompt\na\t1\tb\n"c\nd"\t\te,f\n')
    return [*names, "text.jsonl.gz", "rows.csv", "rows.tsv", "list.json", "book.txt"]


def described(dataset: Dataset | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    places = {id(example): index for index, example in enumerate(dataset.examples)}
    order = islice(dataset.order(3, True, 7), 2 * len(dataset.examples))
    return {
        "examples": [[example.input_ids.tolist(), example.targets.tolist()] for example in dataset.examples],
        "cut_rows": dataset.cut_rows,
        "cut_tokens": dataset.cut_tokens,
        "masked_rows": dataset.masked_rows,
        "fingerprint": dataset.fingerprint,
        "order": [places[id(example)] for example in order],
    }


def write_dialogues(folder: Path) -> list[str]:
    """Of the conversations those that a phone can write."""
    chat = resolve(AutoTokenizer.from_pretrained(folder / "tokenizer"))
    rows = [row for row in conversations(DIALOGUES) if chat.allows(row["messages"])]
    for name, chosen in (("messages.jsonl", rows), ("marked.jsonl", map(_marked, rows, itertools.count()))):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return ["messages.jsonl", "marked.jsonl"]


def cases(folder: Path, names: list[str], vocabulary: int) -> Iterator[dict[str, Any]]:
    """Each file in each way, and what the Python runtime makes of it."""
    for name in names:
        for tokens, packing, split_ in ((16, True, None), (16, False, 0.3), (300, True, 0.25), (5, False, None)):
            case: dict[str, Any] = {"file": name, "tokens": tokens, "vocabulary": vocabulary, "packing": packing}
            case |= {"eval_split": split_, "seed": 5}
            try:
                train, held_out = load_data(
                    folder / name,
                    tokens,
                    vocabulary,
                    folder / "tokenizer",
                    packing=packing,
                    eval_split=split_,
                    seed=5,
                    now=NOW,
                )
                yield {**case, "train": described(train), "held_out": described(held_out)}
            except UsageError as error:
                yield {**case, "error": str(error).replace(str(folder / name), "FILE").replace("--", "").split(": ")[0]}


def write_golden(folder: Path, save: Callable[[Path], Any], write: Callable[[Path], list[str]] = write_files) -> None:
    folder.mkdir(parents=True)
    save(folder / "tokenizer")
    write_mobile(folder / "tokenizer")
    (folder / "encodings.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in encodings(folder / "tokenizer"))
    )
    (folder / "streams.jsonl").write_text("".join(json.dumps(line) + "\n" for line in streams(folder / "tokenizer")))
    (folder / "cases.json").write_text(json.dumps(list(cases(folder, write(folder), 50_000))))


# How tokens are drawn: the vocabulary, the logits' range, to what they are rounded so that some are equal, and the options.
SAMPLED: list[tuple[int, float, float, dict[str, Any]]] = [
    (97, 20.0, 0.0, {}),
    (97, 20.0, 1.0, {"repetition_penalty": 1.5}),
    (97, 6.0, 0.5, {"temperature": 1.0}),
    (1000, 30.0, 0.0, {"temperature": 0.7, "seed": -3}),
    (1000, 30.0, 0.5, {"temperature": 1.3, "top_k": 40, "seed": 2**40}),
    (1000, 30.0, 0.0, {"temperature": 1.3, "top_k": 5000}),
    (1000, 12.0, 0.25, {"temperature": 0.9, "top_p": 0.8}),
    (1000, 12.0, 0.0, {"temperature": 2.5, "min_p": 0.05, "repetition_penalty": 0.8}),
    (1000, 3000.0, 0.0, {"temperature": 2.0}),
    (49152, 40.0, 0.0, {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.1}),
    (151936, 8.0, 0.0, {"temperature": 1.0, "top_p": 0.99}),
]


def sampled_logits(seed: int, vocabulary: int, span: float, rounded_to: float) -> np.ndarray:
    """Logits of which both languages make the same: of SplitMix64's upper 24 bits."""
    logits = (words(seed, 0, vocabulary) >> np.uint64(40)).astype(np.float64) * 2.0**-24 * span - span / 2
    if rounded_to:
        logits = np.floor(logits / rounded_to) * rounded_to
    return logits.astype(np.float32)


def sampled() -> Iterator[dict[str, Any]]:
    """Texts of six tokens, each with logits of its own, and a hash of the last one's weights."""
    for number, (vocabulary, span, rounded_to, chosen) in enumerate(SAMPLED):
        options, ids, found = GenerateOptions(**chosen), [0, vocabulary - 1, number], np.zeros(0)
        for step in range(6):
            logits = sampled_logits(100 * number + step, vocabulary, span, rounded_to)
            if options.temperature:
                found = weights(penalized(logits, ids, options.repetition_penalty), options)
            ids.append(next_token(logits, ids, options))
        case = {"number": number, "vocabulary": vocabulary, "span": span, "rounded_to": rounded_to}
        digest = hashlib.sha256(found.astype(">f8").tobytes()).hexdigest()
        yield {**case, "options": chosen, "ids": ids, "weights_sha256": digest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("gguf", nargs="?", help="SmolLM2's GGUF file")
    parser.add_argument(
        "--saved", type=Path, help="only of the tokenizers in the folders of this one, with conversations"
    )
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    if args.saved:
        for saved in sorted(path for path in args.saved.iterdir() if path.is_dir()):
            write_golden(args.folder / saved.name, partial(shutil.copytree, saved), write_dialogues)
        return
    for name, save in TOKENIZERS.items():
        write_golden(args.folder / name, save)
    for name, save in CHATS.items():
        write_golden(args.folder / name, save, write_dialogues)
    (args.folder / "sampled.json").write_text(json.dumps(list(sampled())))
    if args.gguf:
        tokenizer = open_checkpoint(args.gguf).tokenizer()
        assert tokenizer is not None
        write_golden(args.folder / "smollm2", tokenizer.save_pretrained)


if __name__ == "__main__":
    main()
