"""The byte-level BPE tokenizer: training it, using it, and the cases that hold another implementation to it.

    python3 tokenizer.py train DATA OUT_DIR     writes tokenizer.json, tokenizer_config.json
    python3 tokenizer.py cases OUT_DIR          writes tokenizer_cases.jsonl

Every added token is special, so that with special-token parsing off the
spelling of one inside a text is plain text (the release leaves <think> and
</think> non-special, which would make them impossible to quote).
Where the tokenizers library is absent, ByteTokenizer stands in for toy runs.
"""
import json
import lzma
import os
import random
import sys

SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>",
           "<think>", "</think>"]
BOS, EOS, PAD, USER, ASSISTANT, THINK, END_THINK = range(7)
SPLITS = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]


class ByteTokenizer:
    """One token a byte after the special ones."""
    vocab_size = 7 + 256

    def encode(self, text):
        return [7 + b for b in text.encode()]

    def encode_batch(self, texts):
        return [self.encode(t) for t in texts]

    def decode(self, ids):
        return bytes(i - 7 for i in ids if i >= 7 and i < 263).decode(errors="replace")


class Tokenizer:
    def __init__(self, path):
        import tokenizers
        self.hf = tokenizers.Tokenizer.from_file(path)
        self.hf.encode_special_tokens = True
        self.vocab_size = self.hf.get_vocab_size()

    def encode(self, text):
        return self.hf.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts):
        return [e.ids for e in self.hf.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids):
        return self.hf.decode(list(ids), skip_special_tokens=True)


def load(folder):
    path = os.path.join(folder, "tokenizer.json") if folder else ""
    return Tokenizer(path) if os.path.exists(path) else ByteTokenizer()


def lines(path):
    with lzma.open(path, "rt", encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def training_texts(data, seed=1, prose_bytes=60_000_000):
    """Prose with its books thinned, all question text, and enough numbers that 3-digit groups become tokens."""
    r = random.Random(seed)
    left = prose_bytes
    for part in (1, 2, 3):
        for d in lines(os.path.join(data, f"prose-{part}.jsonl.xz")):
            keep = 1.0 if d["source"] != "classic-books" else 0.25
            text = d["text"].replace("\r\n", "\n")
            for lo in range(0, len(text), 20000):
                if left > 0 and r.random() < keep:
                    left -= len(text[lo:lo + 20000])
                    yield text[lo:lo + 20000]
    for name in ("qa_written_train", "qa_train"):
        for d in lines(os.path.join(data, name + ".jsonl.xz")):
            for _ in range(2):
                yield d["text"]
                for q in d["qas"]:
                    yield q["question"]
    for n in range(1000):
        yield " ".join([f"{n:03d}", str(n)] * 300)
    for _ in range(20000):
        yield f"{r.getrandbits(128):032x}"


def train(data, out, vocab=16384):
    import tokenizers as tk
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
    t = tk.Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([])
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tk.Regex(p), "isolated") for p in SPLITS]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    special = [tk.AddedToken(s, special=True, normalized=False) for s in SPECIAL]
    t.train_from_iterator(training_texts(data), trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    assert t.get_vocab_size() == vocab and [t.token_to_id(s) for s in SPECIAL] == list(range(7))
    os.makedirs(out, exist_ok=True)
    t.save(os.path.join(out, "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS],
              "pad_token": SPECIAL[PAD], "add_bos_token": False, "add_eos_token": False, "clean_up_tokenization_spaces": False,
              "model_max_length": 131072}
    json.dump(config, open(os.path.join(out, "tokenizer_config.json"), "w"), ensure_ascii=False, indent=1)


def case_texts(seed=3):
    r = random.Random(seed)
    fixed = ["", " ", "  ", "\n", "\r\n", "\r", "\t", "\n\n\n", " \n ", "a", " a", "a ", "  a  b   c    ", "Hello, world!", "hello\r\nworld\r\n",
             "line one\nline two\n\nline four\r\n\r\n\r\nend", "trailing spaces   \nnext", "tabs\t\tand\tspaces \t mixed", "\u00a0nbsp\u00a0 here",
             "\u3000ideographic space", "zero\u200bwidth\u200djoin", "1", "12", "123", "1234", "12345", "1234567", "3.14159", "1,234,567.89", "v2.10.3",
             "2007-06-29", "29 June 2007", "０１２３ full width", "٣٤٥ arabic digits", "Ⅷ roman ½ ¾ x² H₂O", "the year1999was", "abc123def456",
             "it's we'll they've I'm you'd don't", "IT'S WE'LL", "‘curly’ “quotes” — dash – en…", "user@example.com https://example.com/a?b=c&d=e#f",
             "C:\\Users\\me\\file.txt /usr/share/common-licenses/GPL-3", "foo_bar.baz->qux::quux(1, 2)", "if (a != b && c <= d) { return x ? y : z; }",
             "#include <stdio.h>\nint main(void) {\n\treturn 0;\n}\n", "def f(x):\n    return x**2  # square\n", "SELECT * FROM t WHERE a = 'b';",
             "<html><body class=\"x\">&nbsp;</body></html>", "{\"key\": [1, 2, 3], \"n\": null}", "| a | b |\n|---|---|\n| 1 | 2 |", "$100 €50 £20 ¥3000 50% 3°C",
             "!!! ??? ... --- ___ *** ### @@@", "a.b.c.d", ".hidden ..dots ...more", "(parenthesis)[bracket]{brace}", "emoji 😀 👍🏽 👨‍👩‍👧‍👦 🇫🇷 ❤️ end",
             "😀😀😀", "你好，世界。", "日本語のテキスト、カタカナ と 漢字123", "한국어 문장입니다.", "中文English混排123数字", "ひらがなカタカナ漢字", "龥龦 edge of range", "Привет, мир! Ёлка.",
             "Ελληνικά γράμματα", "עברית וערבית العربية", "हिन्दी पाठ", "ไทยภาษา", "café naïve résumé Ångström", "cafe\u0301 combining n\u0303", "ﬁ ligature ß ẞ İ ı",
             "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛", "\ufeffbom at start", "replacement \ufffd char", "private \ue000 use", "control \x00\x01\x1f chars\x7f", "\x85next line\u2028sep\u2029para",
             "e\u0301\u0301\u0301 stacked", "a" * 100, "1" * 100, " " * 50 + "x", "\n" * 20 + "x", "x" + " \n" * 10, "ab" * 64, "-" * 80, "=" * 33 + "\n", "\t" * 9,
             "f3b2c1d0-9e8f-4a7b-8c6d-5e4f3a2b1c0d", "The special magic number for long-term is: 7391820.", "Version 3, 29 June 2007",
             "[file name]: GPL-3\n[file content begin]\n", "\n[file content end]\n", "Not found in the documents.", " leading and trailing ", "\n leading newline space",
             "word\n  indented\n    more\n\ttab", "end. Next! And? \"Quoted.\" 'Single.'", "semi;colon:comma,dot.", "x=1;y=2", "a/b\\c|d", "~tilde`tick^caret", "¿Qué? ¡Sí!",
             "№ § ¶ † ‡ • ™ © ®", "→ ← ↑ ↓ ⇒ ∑ ∫ √ ∞ ≠ ≤", "█▓▒░ ─│┌┐", "\u202eright to left\u202c", "a\u0308o\u0308u\u0308", "ＡＢＣ ｆｕｌｌ", "mixed\u2009thin\u2002en\u2003em"]
    plain = [(t, False) for t in fixed]
    pools = ["abc XYZ", "0123456789", " \t\n\r", ".,;:!?'\"()[]{}<>-_/\\|@#$%^&*+=~`", "éüñçøßаяЖλΩ", "中国日本語ひカ", "😀🎉👍\u200d\ufe0f", "\u00a0\u2003\u0301\ufeff"]
    for _ in range(70):
        plain.append(("".join(r.choice(r.choice(pools)) for _ in range(r.randint(1, 60))), False))
    for s in SPECIAL:
        plain += [(s, False), (f"before {s}after", False)]
    inside = f"a document that says {SPECIAL[EOS]} and {SPECIAL[USER]}hello{SPECIAL[ASSISTANT]}{SPECIAL[END_THINK]} stays text"
    plain.append((inside, False))
    parsed = [(inside, True), ("".join(SPECIAL), True), (f"{SPECIAL[BOS]}{SPECIAL[USER]}What is it?{SPECIAL[ASSISTANT]}{SPECIAL[END_THINK]}It is this.{SPECIAL[EOS]}", True),
              (f" {SPECIAL[BOS]} spaced {SPECIAL[EOS]} ", True), ("<|User|> is not special", True), ("<think>hm</think> 42", True),
              (f"{SPECIAL[USER]}\n\n123{SPECIAL[ASSISTANT]}", True), (SPECIAL[PAD] * 3 + "x", True)]
    return plain + parsed


def cases(folder):
    import tokenizers
    t = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_cases.jsonl"), "w", encoding="utf-8") as f:
        for text, special in case_texts():
            t.encode_special_tokens = not special
            ids = t.encode(text, add_special_tokens=False).ids
            assert t.decode(ids, skip_special_tokens=False) == text, text
            f.write(json.dumps({"text": text, "ids": ids, "special": special}, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(sys.argv[2], sys.argv[3])
    else:
        cases(sys.argv[2])
