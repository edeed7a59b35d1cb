"""The sources as token arrays: prose cut into sentences and tokenized once, passages with their questions.

    python3 -m data.corpus DATA TOKENIZER_DIR OUT [processes]

OUT holds tok.bin (uint16), text.bin (UTF-8), sent_tok.npy and sent_byte.npy
(where each sentence starts in either), docs.json, passages.json and vocabulary.json, and wordnet.jsonl where DATA or
$PHAROS_EXTRA (else .data of the repository) holds wordnet.jsonl.xz (see wordnet.py); prose-4 (manuals.py) is read from there too. A sentence
keeps the white space before it and the line breaks after its full stop, so that
tokens of sentences put together are the tokens of the text.
One document of prose in twenty-five is held out for the haystacks of checks.
"""
import collections
import glob
import itertools
import json
import lzma
import multiprocessing as mp
import os
import re
import shutil
import sys
import zlib

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import tokenizer as tk  # noqa: E402
from data.lexicon import Lexicon  # noqa: E402
from data.words import ADJ, ANIMAL, FIRST, LAST, NOUN, part  # noqa: E402

END = re.compile(r"[.!?][\"'”’)\]]*[\r\n]*(?=\s|$)|\n(?=\s*\n)")
EXTRA = os.environ.get("PHAROS_EXTRA", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", ".data"))
SHARES = (("classic-books", 5), ("python-peps", 3), ("cpp-docs", 2), ("manuals", 4))  # of prose sections, where the source is there
SETS = ("qa_written_train", "qa_train", "qa_written_val", "qa_val")


def sentences(text):
    """Cut points of a text; pieces longer than 1200 characters are cut at a space."""
    cuts, at = [], 0
    for m in END.finditer(text):
        if m.end() - at >= 30:
            while m.end() - at > 1200:
                sp = text.rfind(" ", at + 200, at + 1000)
                at = sp if sp > 0 else at + 1000
                cuts.append(at)
            at = m.end()
            cuts.append(at)
    if not cuts or cuts[-1] < len(text):
        cuts.append(len(text))
    return cuts


def held_out(name):
    return zlib.crc32(name.encode()) % 25 == 0


_tok = None


def _init(folder):
    global _tok
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tok = tk.load(folder)


def _work(doc):
    text = doc["text"].replace("\r\n", "\n")
    at, parts = 0, []
    for c in sentences(text):
        parts.append(text[at:c])
        at = c
    ids = _tok.encode_batch(parts)
    return (doc["source"], doc["name"], np.concatenate([np.asarray(i, np.uint16) for i in ids]),
            np.array([len(i) for i in ids]), "".join(parts).encode(), np.array([len(p.encode()) for p in parts]))


def prepare(data, tok_dir, out, procs, limit=None):
    os.makedirs(out, exist_ok=True)

    def docs():
        n = 0
        for folder, part in ((data, 1), (data, 2), (data, 3), (EXTRA, 4)):
            path = os.path.join(folder, f"prose-{part}.jsonl.xz")
            for d in tk.lines(path) if os.path.exists(path) else ():
                n += 1
                if limit is None or n <= limit:
                    yield d
                else:
                    return

    index, n_tok, n_byte, st, sb = [], 0, 0, [0], [0]
    with open(os.path.join(out, "tok.bin"), "wb") as ft, open(os.path.join(out, "text.bin"), "wb") as fb, \
            mp.Pool(procs, _init, (tok_dir,)) as pool:
        for source, name, ids, ti, raw, tb in pool.imap(_work, docs(), chunksize=8):
            first = index[-1][3] if index else 0
            index.append((source, name, first, first + len(ti), int(ti.sum())))
            ft.write(ids.tobytes())
            fb.write(raw)
            st.append(n_tok + np.cumsum(ti))
            sb.append(n_byte + np.cumsum(tb))
            n_tok += int(ti.sum())
            n_byte += int(tb.sum())
    np.save(os.path.join(out, "sent_tok.npy"), np.concatenate([np.atleast_1d(s) for s in st]).astype(np.int64))
    np.save(os.path.join(out, "sent_byte.npy"), np.concatenate([np.atleast_1d(s) for s in sb]).astype(np.int64))
    json.dump(index, open(os.path.join(out, "docs.json"), "w"))
    sets = {}
    for name in SETS:
        path = os.path.join(data, name + ".jsonl.xz")
        sets[name] = [d for i, d in enumerate(tk.lines(path)) if limit is None or i < 4 * limit] if os.path.exists(path) else []
    for more in sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "written_more*.jsonl.xz"))):
        sets["qa_written_train"] += [dict(d, pool=os.path.basename(more).split(".")[0]) for i, d in enumerate(tk.lines(more)) if limit is None or i < 4 * limit]
    json.dump(sets, open(os.path.join(out, "passages.json"), "w"))
    for source in (data, EXTRA):
        path = os.path.join(source, "wordnet.jsonl.xz")
        if os.path.exists(path):
            with lzma.open(path, "rb") as f, open(os.path.join(out, "wordnet.jsonl"), "wb") as g:
                shutil.copyfileobj(f, g)
            break
    json.dump(vocabulary(docs()), open(os.path.join(out, "vocabulary.json"), "w"))
    return n_tok


def vocabulary(docs, sample=400):
    """Words and names met in the prose, without those that are kept for checking."""
    words, names = collections.Counter(), collections.Counter()
    for d in itertools.islice(docs, sample):
        text = d["text"][:60000]
        words.update(re.findall(r"(?<![A-Za-z])[a-z]{4,11}(?![A-Za-z])", text))
        names.update(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{3,10}(?![A-Za-z])", text))
    kept = {w.lower() for stock in (ADJ, NOUN, FIRST, LAST, ANIMAL) for w in part(stock, "check")}
    ranked = [w for w, n in words.most_common(14000) if n > 3 and w not in kept]
    return {"words": ranked[150:], "names": [w for w, n in names.most_common(5000) if n > 1 and w.lower() not in kept]}


class Corpus:
    """Read side: prose by sentence number, passages by set."""

    def __init__(self, folder):
        self.tok = np.memmap(os.path.join(folder, "tok.bin"), np.uint16, "r")
        self.text = np.memmap(os.path.join(folder, "text.bin"), np.uint8, "r")
        self.sent_tok = np.load(os.path.join(folder, "sent_tok.npy"))
        self.sent_byte = np.load(os.path.join(folder, "sent_byte.npy"))
        self.docs = [tuple(d) for d in json.load(open(os.path.join(folder, "docs.json")))]
        self.sets = json.load(open(os.path.join(folder, "passages.json")))
        self.vocabulary = json.load(open(os.path.join(folder, "vocabulary.json")))
        self.lexicon = Lexicon(os.path.join(folder, "wordnet.jsonl"))
        self.by_split = {}
        for split in ("train", "check"):
            groups = {}
            for d in self.docs:
                if held_out(d[1]) == (split == "check") and d[4] >= 120:
                    groups.setdefault(d[0], []).append(d)
            self.by_split[split] = {s: (g, np.cumsum([d[4] for d in g])) for s, g in groups.items()}

    def sentence(self, i):
        return bytes(self.text[self.sent_byte[i]:self.sent_byte[i + 1]]).decode()

    def tokens(self, i, j=None):
        return self.tok[self.sent_tok[i]:self.sent_tok[(i if j is None else j - 1) + 1]]

    def length(self, i):
        return int(self.sent_tok[i + 1] - self.sent_tok[i])

    def section(self, r, n, split="train", shares=None):
        """(name, first, last) sentences of about n tokens (never more) from a random document. Checks keep to the first three sources."""
        groups = self.by_split[split]
        shares = shares or SHARES[:None if split == "train" else 3]
        names = [s for s, _ in shares if s in groups]
        source = r.choices(names, [w for s, w in shares if s in groups])[0]
        docs, cum = groups[source]
        _, name, a, b, total = docs[int(np.searchsorted(cum, r.random() * cum[-1], side="right"))]
        if r.random() < (0.2 if total > 4 * n else 0.6):
            lo = a
        else:
            limit = np.searchsorted(self.sent_tok, self.sent_tok[b] - min(n, total), side="right")
            lo = r.randint(a, max(a, min(int(limit), b - 1)))
        hi = int(np.searchsorted(self.sent_tok, self.sent_tok[lo] + n, side="right")) - 1
        return name, lo, min(max(hi, lo), b)


_opened = {}


def opened(folder):
    """The corpus of a folder, read once; a link that leads elsewhere since is read again."""
    path = os.path.realpath(folder)
    if path not in _opened:
        _opened.clear()
        _opened[path] = Corpus(path)
    return _opened[path]


if __name__ == "__main__":
    n = prepare(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count())
    print(json.dumps({"prose_tokens": n, "wordnet": os.path.exists(os.path.join(sys.argv[3], "wordnet.jsonl"))}))
