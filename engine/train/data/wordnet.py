"""WordNet 3.0 as one compact file: what a word is, what it means, which words may stand for it.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb WN
    python3 -m data.wordnet WN/usr/share/wordnet OUT/wordnet.jsonl.xz

One row for each word and part of speech (n, v, a, r): [word, part, times met, field, gloss, words of the same
first sense, word of the sense above]. The first row holds irregular forms: {"v": {form: word}, "n": {form: word}}. `field` is the
lexicographer's file of the first sense (15 place, 18 person, 28 time, ...). Words of the same sense are listed
only where it is the first sense of both.

WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Used under the WordNet licence, which allows use,
copying and modification with this notice.
"""
import collections
import json
import lzma
import os
import sys

FILES = (("n", "noun"), ("v", "verb"), ("a", "adj"), ("r", "adv"))
TYPES = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}


def rows(folder):
    path = lambda name: os.path.join(folder, name)
    met = collections.Counter()
    for line in open(path("cntlist.rev")):
        key, _, n = line.split()
        word, rest = key.split("%")
        met[word, TYPES[rest[0]]] += int(n)
    sets, first = {}, {}
    for part, name in FILES:
        for line in open(path("data." + name), encoding="utf-8"):
            if line[0] == " ":
                continue
            head, gloss = line.split(" | ", 1)
            f = head.split()
            n = int(f[3], 16)
            words = [w.split("(")[0] for w in f[4:4 + 2 * n:2]]
            rest = f[5 + 2 * n:]
            above = next((rest[i + 1] for i in range(0, len(rest) - 1, 4) if rest[i] in ("@", "@i")), None)
            sets[part, f[0]] = (words, gloss.split("; \"")[0].strip().rstrip(";"), int(f[1]), above)
        for line in open(path("index." + name)):
            if line[0] != " ":
                f = line.split()
                first[f[0], part] = f[-int(f[2])]
    forms = {}
    for part, name in FILES[:2]:
        forms[part] = {}
        for line in open(path(name + ".exc")):
            f = line.split()
            if "_" not in line:
                forms[part].setdefault(f[0], f[1])
    yield forms
    for (word, part), offset in sorted(first.items()):
        words, gloss, field, above = sets[part, offset]
        name = next((w for w in words if w.lower() == word), word)
        same = [w.replace("_", " ") for w in words if w.lower() != word and first.get((w.lower(), part)) == offset]
        up = sets[part, above][0][0].replace("_", " ") if above else ""
        yield [name.replace("_", " "), part, met[word, part], field, gloss, same, up]


if __name__ == "__main__":
    os.makedirs(os.path.dirname(os.path.abspath(sys.argv[2])), exist_ok=True)
    with lzma.open(sys.argv[2], "wt", encoding="utf-8") as f:
        count = 0
        for row in rows(sys.argv[1]):
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    print(json.dumps({"rows": count}))
