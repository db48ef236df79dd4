"""The tokenizer of a GGUF file, from its keys.

A GGUF has a vocabulary and merges, and only a name for how text is cut into words before: ``tokenizer.ggml.pre``. What each name stands for is a
table of llama.cpp's; a name that is not in the one here is refused, since a model that is given other ids than it was trained with learns worse
without a word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mesp.runtime.account import Account, check_integer, shown
from mesp.runtime.errors import UsageError

from .huggingface_folder import reading

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_AFTER_NUMBERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _AFTER_NUMBERS
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _AFTER_NUMBERS
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Words:
    """How text becomes words, and words tokens.

    Args:
        splits: expressions; each cuts what the one before leaves into what it matches and what is between
        nfc: text is brought into Unicode's normalization form C before; llama.cpp leaves it, but the models were trained so
        ignore_merges: a word that is a token is taken as it is
        bos: the token that begins a text is put before it, unless the file says otherwise
    """

    splits: tuple[str, ...]
    nfc: bool = False
    ignore_merges: bool = False
    bos: bool = False


_WORDS = {
    Words((_LLAMA3,), ignore_merges=True, bos=True): (
        "llama-bpe",
        "llama3",
        "llama-v3",
        "falcon3",
        "pixtral",
        "midm-2.0",
    ),
    Words((_LLAMA3,)): ("dbrx", "smaug-bpe"),
    Words((_QWEN2,), nfc=True): ("qwen2",),
    Words((_QWEN2,)): ("deepseek-r1-qwen", "megrez", "stablelm2", "kormo"),
    Words((_DIGIT, _GPT2)): ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    Words((_GPT2,)): ("gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "gigachat", "a.x-4.0", "mellum", "exaone4"),
    Words((_TEKKEN,), ignore_merges=True, bos=True): ("tekken",),
}
WORDS = {name: words for words, names in _WORDS.items() for name in names}

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5  # of tokenizer.ggml.token_type
_SPACE = "▁"  # what stands for one in a SentencePiece vocabulary


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a file, and llama.cpp's type of each."""

    where: str
    tokens: list[str]
    types: list[int]

    def ids(self) -> dict[str, int]:
        """The tokens that a text can become. Unused ones fill the embedding up to a round number."""
        return {
            token: number
            for number, (token, type_) in enumerate(zip(self.tokens, self.types, strict=True))
            if type_ != _UNUSED
        }

    def whole(self) -> Iterator[tuple[str, bool]]:
        """The tokens that are found in a text before it is cut into words, and whether each is special."""
        for token, type_ in zip(self.tokens, self.types, strict=True):
            if type_ in (_UNKNOWN, _CONTROL, _USER_DEFINED):
                yield token, type_ != _USER_DEFINED

    def special(self, account: Account, name: str, default: int | None) -> str | None:
        """The token that a key has the id of. An ordinary one, as some files name for padding, would be cut out of every text, so it is none."""
        key = f"tokenizer.ggml.{name}_token_id"
        number = account.take(key, default)
        if number is None:
            return None
        number = check_integer(f"{self.where}: {key}", number, 0, len(self.tokens) - 1)
        if self.types[number] in (_UNKNOWN, _CONTROL, _USER_DEFINED):
            return self.tokens[number]
        if name == "eos":
            raise UsageError(
                f"{self.where}: {key} is {shown(self.tokens[number])}, an ordinary token and none that ends texts."
            )
        return None


def read_tokenizer(account: Account, rows: int) -> Any | None:
    """transformers' tokenizer of a file's keys, None if the file has none.

    Args:
        account: of the file's keys; those of the tokenizer are used up
        rows: of the embedding; ids must be below

    Raises:
        UsageError: a tokenizer whose ids would not be those of llama.cpp.
    """
    model = account.take("tokenizer.ggml.model", "none")
    if model in ("none", "no_vocab"):
        return None
    if model not in ("gpt2", "llama"):
        raise UsageError(
            f"{account.where}: a tokenizer of the kind {shown(model)} (tokenizer.ggml.model) is not read. Supported: gpt2, llama. "
            "Use the model's Hugging Face folder."
        )
    vocabulary = _vocabulary(account, rows)
    defaults = {"bos": 1, "eos": 2, "unknown": 0} if model == "llama" else {}
    special = {
        name: vocabulary.special(account, name, defaults.get(name)) for name in ("bos", "eos", "unknown", "padding")
    }
    make = _byte_level if model == "gpt2" else _sentencepiece
    with reading(account.where, "a tokenizer"):  # merges of tokens that there are not
        tokenizer, bos = make(account, vocabulary, special["unknown"])
    _add_around(account, tokenizer, bos, special)
    account.expect("tokenizer.ggml.add_sep_token", False, "no separator is put after a text")
    account.expect("tokenizer.ggml.remove_extra_whitespaces", False, "blanks are kept")
    return _whole(account, tokenizer, vocabulary, special)


def _vocabulary(account: Account, rows: int) -> Vocabulary:
    tokens = account.take("tokenizer.ggml.tokens")
    if not _all(tokens, str) or not tokens:
        raise UsageError(f"{account.where} has no list of tokens (tokenizer.ggml.tokens).")
    if len(tokens) > rows:
        raise UsageError(f"{account.where} has {len(tokens)} tokens, but its embedding has {rows} rows.")
    types = account.take("tokenizer.ggml.token_type", [1] * len(tokens))
    if not _all(types, int) or len(types) != len(tokens):
        raise UsageError(
            f"{account.where}: tokenizer.ggml.token_type has not one number for each of {len(tokens)} tokens."
        )
    vocabulary = Vocabulary(account.where, tokens, types)
    if len(vocabulary.ids()) != sum(type_ != _UNUSED for type_ in types):
        raise UsageError(f"{account.where}: two of its tokens are the same text, so one of them can have no id.")
    return vocabulary


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _byte_level(account: Account, vocabulary: Vocabulary, unknown: str | None) -> tuple[Any, bool]:
    """A byte-level BPE as GPT-2's, and whether it begins texts with BOS by itself. It needs no unknown token: every byte is one."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    name = account.take("tokenizer.ggml.pre")
    if name not in WORDS:
        raise UsageError(
            f"{account.where}: how its tokenizer cuts words is {shown(name)} (tokenizer.ggml.pre), which is not known here. Known: "
            f"{', '.join(WORDS)}. Use the model's Hugging Face folder, or a GGUF that was converted anew."
        )
    words = WORDS[name]
    merges = account.take("tokenizer.ggml.merges")
    if not _all(merges, str):
        raise UsageError(f"{account.where} has no list of merges (tokenizer.ggml.merges).")
    account.ignore("tokenizer.ggml.scores", "tokenizer.ggml.add_space_prefix")  # of SentencePiece
    tokenizer = Tokenizer(
        models.BPE(vocabulary.ids(), [_merge(merge) for merge in merges], ignore_merges=words.ignore_merges)
    )
    if words.nfc:
        tokenizer.normalizer = normalizers.NFC()
    # A digit alone, and GPT-2's own expression, are written as in the tokenizer.json of those models.
    cuts: list[Any] = [
        pre_tokenizers.Digits(individual_digits=True)
        if split == _DIGIT
        else pre_tokenizers.Split(Regex(split), behavior="isolated")
        for split in words.splits
        if split != _GPT2
    ]
    cuts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words.splits[-1] == _GPT2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, words.bos


def _merge(text: str) -> tuple[str, str]:
    """The two tokens of a merge. The first may begin with a space."""
    cut = text.find(" ", 1)
    if cut < 0:
        raise ValueError(f"the merge {text!r} is not of two tokens")
    return text[:cut], text[cut + 1 :]


def _sentencepiece(account: Account, vocabulary: Vocabulary, unknown: str | None) -> tuple[Any, bool]:
    """A BPE as SentencePiece's, and whether it begins texts with BOS by itself.

    It merges whatever two tokens make the token of the highest score, so the merges are all pairs, by the scores of what they make.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = account.take("tokenizer.ggml.scores")
    if not _all(scores, float) or len(scores) != len(vocabulary.tokens):
        raise UsageError(f"{account.where}: tokenizer.ggml.scores has not one number for each token.")
    account.ignore("tokenizer.ggml.pre", "tokenizer.ggml.merges")  # of byte-level vocabularies
    ids = vocabulary.ids()
    pairs = [
        (-scores[number], number, cut)
        for token, number in ids.items()
        if vocabulary.types[number] == 1
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    tokens = vocabulary.tokens
    merges = [(tokens[number][:cut], tokens[number][cut:]) for _, number, cut in sorted(pairs)]
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = account.flag("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefix else spaces
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer, True


def _add_around(account: Account, tokenizer: Any, bos: bool, special: dict[str, str | None]) -> None:
    """What is put before and after a text."""
    from tokenizers import processors

    parts = ["$A"]
    for name, adds, place in (("bos", bos, 0), ("eos", False, 2)):
        if account.flag(f"tokenizer.ggml.add_{name}_token", adds):
            if special[name] is None:
                raise UsageError(
                    f"{account.where} puts a token around texts that it does not have (tokenizer.ggml.{name}_token_id)."
                )
            parts.insert(place, str(special[name]))
    used = [(part, tokenizer.token_to_id(part)) for part in dict.fromkeys(parts) if part != "$A"]
    pair = parts + [part.replace("$A", "$B") for part in parts]
    around = processors.TemplateProcessing(single=parts, pair=pair, special_tokens=used)
    tokenizer.post_processor = around if used else processors.ByteLevel(trim_offsets=False)


def _whole(account: Account, tokenizer: Any, vocabulary: Vocabulary, special: dict[str, str | None]) -> Any:
    """With the tokens that are found whole, and the chat template."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    added = [AddedToken(token, special=is_special, normalized=False) for token, is_special in vocabulary.whole()]
    tokenizer.add_tokens(added)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    named = {names[name]: token for name, token in special.items() if token is not None}
    template = account.text("tokenizer.chat_template", "")
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)
    whole.chat_template = template or None
    return whole
