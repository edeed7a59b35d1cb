"""What words are: parts of speech, forms, fields and synonyms from WordNet (wordnet.py), and a light tagger.

Tags are single letters, so that a sentence is a string and a phrase a regular expression over it:
D determiner  J adjective  N noun  S plural noun  P name or code  # number  O pronoun  o "of"  I preposition  T "to"
V past verb  Z third person verb  B base verb  E participle  G -ing form  A is/are/was/were  b be/been/being  H have
Y do  M modal  K subordinator  W relative or question word  C conjunction  R adverb  X anything else; punctuation stands for itself.
"""
import json
import os
import re

TOKEN = re.compile(r"[A-Za-z0-9_`$£€][\w`'’*.$:/\-]*[\w`*%]|\w|[^\w\s]")
CLOSED = {}
for _tag, _words in (
        ("D", "the a an this these those my his its our your their some any no each every all both another such several many few most much more"),
        ("O", "he she it they we you i him them me us himself herself itself themselves myself one nothing something everything anything nobody everybody someone everyone anyone there"),
        ("W", "who which that what whom whose how whatever whoever"),
        ("C", "and or but nor yet"),
        ("I", "in on at by for with from into onto under over above below between among through during against about across behind beside besides beyond near "
              "toward towards upon within without along around inside outside per like via round off up down out past despite"),
        ("A", "is are was were am isn't aren't wasn't weren't"), ("b", "be been being"), ("H", "has have had having hasn't haven't hadn't"), ("Y", "do does did done don't doesn't didn't"),
        ("M", "can could will would shall should may might must cannot can't couldn't won't wouldn't shouldn't mustn't"),
        ("K", "because since if when while although though unless until till after before as than so where whether why once lest whenever wherever whereas"),
        ("R", "not never also only just still then now very too quite rather almost even ever here already always often soon again once well however indeed perhaps "
              "therefore thus hence away back together yesterday"),
        ("#", "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty thirty forty fifty sixty hundred thousand million"),
        ("o", "of"), ("T", "to")):
    for _w in _words.split():
        CLOSED.setdefault(_w, _tag)
SHARES = {"N": 1.0, "S": 0.6, "B": 0.45, "Z": 0.2, "V": 0.6, "G": 0.3, "J": 1.0, "R": 1.0}


def plural(w):
    return w + "es" if re.search(r"(?:s|x|z|ch|sh)$", w) else w[:-1] + "ies" if re.search(r"[^aeiou]y$", w) else w + "s"


def past(w):
    return w + "d" if w.endswith("e") else w[:-1] + "ied" if re.search(r"[^aeiou]y$", w) else \
        w + w[-1] + "ed" if re.search(r"^[^aeiou]*[aeiou][bdgklmnprt]$", w) else w + "ed"


def ing(w):
    return w[:-2] + "ying" if w.endswith("ie") else w[:-1] + "ing" if w.endswith("e") and not w.endswith("ee") else \
        w + w[-1] + "ing" if re.search(r"^[^aeiou]*[aeiou][bdgklmnprt]$", w) else w + "ing"


class Lexicon:
    """Empty where the file is not there: then nothing is tagged and no maker that needs tags finds anything."""

    def __init__(self, path):
        self.tags, self.base, self.fields, self.above, self.same, self.glossary = {}, {}, {}, {}, {}, []
        self.kinds, self.verbs, self.nouns = {}, [], []
        self.meanings, self.alike = [], {}  # (noun, what it means, its kind); {(tag, field): common words}
        if not os.path.exists(path):
            return
        weight = {}
        irregular = {}

        def form(word, tag, n, base):
            w = weight.setdefault(word, {})
            if n * SHARES[tag] + 0.1 > w.get(tag, 0):
                w[tag] = n * SHARES[tag] + 0.1
                self.base[word, tag] = base

        with open(path, encoding="utf-8") as f:
            exc = json.loads(next(f))
            for x, b in exc["v"].items():
                irregular.setdefault(b, []).append(x)
            odd = {}
            for x, b in exc["n"].items():
                odd.setdefault(b, x)
            rows = [json.loads(line) for line in f]
        counts = {}
        for word, part, n, field, gloss, same, up in rows:
            if " " in word or not word[:1].isalpha():
                if len(gloss) > 12 and part in "nv":
                    self.glossary.append((word, part, gloss))
                continue
            low = word.lower()
            counts.setdefault(low, {})[part] = n + 0.2
            if len(gloss) > 12 and len(word) > 3 and part in "nva":
                self.glossary.append((word, part, gloss))
            if word != low:
                if part == "n":
                    self.fields.setdefault(word, field)
                continue
            if part == "n":
                self.fields[low] = field
                self.above[low] = up
                short = gloss.split(";")[0].split("(")[0].strip()
                if n > 0 and len(low) > 3 and 3 <= len(short.split()) <= 9 and low[:5] not in short:
                    self.meanings.append((low, short, up if up and " " not in up else ""))
                form(low, "N", n, low)
                form(odd.get(low) or plural(low), "S", n, low)
            elif part == "v":
                form(low, "B", n, low)
                form(plural(low), "Z", n, low)
                bent = irregular.get(low, ())
                old = [x for x in bent if not x.endswith("ing") and not x.endswith("s")]
                for x in old or [past(low)]:
                    form(x, "V", n, low)
                form(next((x for x in bent if x.endswith("ing") and len(x) > len(low)), None) or ing(low), "G", n, low)
            else:
                form(low, "J" if part == "a" else "R", n, low)
        for w, tags in weight.items():
            self.tags[w] = "".join(sorted(tags, key=tags.get, reverse=True))
        for w, t in self.tags.items():
            if len(w) > 3 and t[0] in "NSJVB" and w.isalpha() and w not in CLOSED and weight[w][t[0]] > 1.5:
                self.alike.setdefault((t[0], self.fields.get(self.base.get((w, t[0]), w), 0) if t[0] in "NS" else 0), []).append(w)
        self.one_past = {}  # verbs with a single past form: the only ones put in place of others in the past
        for w, t in self.tags.items():
            if "V" in t:
                b = self.base[w, "V"]
                self.one_past[b] = w if b not in self.one_past else None
        plural_of = {self.base[w, "S"]: w for w, t in self.tags.items() if "S" in t}
        for word, part, n, field, gloss, same, up in rows:
            c = counts.get(word, {})
            if part == "r" or n > 120 or not word.isalpha() or len(word) < 4 or word in CLOSED or c.get(part, 0) < 0.75 * sum(c.values()):
                continue
            good = []
            for s in same:
                d = counts.get(s, {})
                if " " in s or not s.islower() or not s.isalpha() or len(s) < 3 or d.get(part, 0) < 1 or d[part] < 0.5 * sum(d.values()):
                    continue
                if s[:5] != word[:5]:
                    good.append(s)
            for s in good:
                if part == "n":
                    self.same.setdefault(word, []).append(s)
                    if n > 0 and counts[s][part] > 1 and s not in self.above.get(word, ""):
                        self.nouns.append((word, s))
                    if word in plural_of and s in plural_of:
                        self.same.setdefault(plural_of[word], []).append(plural_of[s])
                elif part == "a":
                    self.same.setdefault(word, []).append(s)
                else:
                    self.same.setdefault(word, []).append(s)
                    self.same.setdefault(plural(word), []).append(plural(s))
                    self.same.setdefault(ing(word), []).append(ing(s))
                    if self.one_past.get(word) and self.one_past.get(s):
                        if n > 0:
                            self.verbs.append((word, self.one_past[word], s, self.one_past[s]))
                        self.same.setdefault(self.one_past[word], []).append(self.one_past[s])

    def __bool__(self):
        return bool(self.tags)

    def reword(self, r, text, chance):
        """Some words (each with the given chance) exchanged for others of the same first sense."""
        return re.sub(r"(?<![\w-])[a-z]{4,}(?![\w-])", lambda m: r.choice(self.same[m.group()]) if m.group() in self.same and r.random() < chance else m.group(), text)

    def field(self, word):
        """The lexicographer's file of a noun or name: 15 place, 18 person, 28 time, 14 group, 0 unknown."""
        if word in self.fields:
            return self.fields[word]
        b = self.base.get((word.lower(), "S")) or word.lower()
        return self.fields.get(b, 0)

    def kind(self, w):
        """(tag or "" where the neighbours decide, tags it can have by rank, whether it is capitalised) of a token by itself."""
        low, c, can = w.lower().replace("’", "'"), w[0], ""
        if not (c.isalnum() or c in "_`$£€"):
            t = c if c in ",;:.?!()\"" else "," if c in "—–" else "\"" if c in "“”" else "X"
        elif low in ("her", "her's"):
            t = "D"
        elif low in CLOSED and (c.islower() or w != w.upper() or len(w) == 1):
            t = CLOSED[low]
        elif c.isdigit() or c in "$£€":
            t = "#"
        elif not w.replace("'", "").replace("’", "").replace("-", "").isalpha() or (len(w) > 1 and w[1:].lower() != w[1:]):
            t = "P"
        elif w.endswith(("'s", "’s")):
            t = "D" if c.islower() else "Q"
        else:
            t, can = "", self.tags.get(low, "")
            if not can and c.islower():
                t = "R" if low.endswith("ly") else "E" if low.endswith("ed") else "G" if low.endswith("ing") else \
                    "J" if low.endswith(("ous", "ful", "able", "ible", "ical", "less")) else "S" if low.endswith("s") else "N"
            elif not can or w in self.fields and c.isupper():
                t = "P"
        return t, can, c.isupper()

    def tag(self, s):
        """(spans, tags) of a sentence."""
        spans, out, kinds, prev = [], [], self.kinds, "."
        for m in TOKEN.finditer(s):
            w = m.group()
            while w[-1] in ".:/" and len(w) > 1:
                w = w[:-1]
            a = m.start()
            spans.append((a, a + len(w)))
            k = kinds.get(w)
            if k is None:
                if len(kinds) > 200000:
                    kinds.clear()
                k = kinds[w] = self.kind(w)
            t, can, capital = k
            if not t:
                t = can[0]
                if capital and prev not in ".?!:\"":
                    t = "P"
                elif prev in "DJQ#" and t in "BZVG":
                    t = next((x for x in can if x in "NSJ"), "J" if t in "VG" else t)
                elif prev in "TMY" and "B" in can:
                    t = "B"
                elif "V" in can and (prev in "AHb" or (prev == "R" and len(out) > 1 and out[-2] in "AHb")):
                    t = "E"
                elif prev in "NPO" and t == "S" and "Z" in can:
                    t = "Z?"
                elif prev == "O" and "B" in can and t in "BN":
                    t = "B"
            out.append(t)
            prev = t
        n = len(out)
        for i, t in enumerate(out):
            nxt = out[i + 1] if i + 1 < n else "."
            if t == "Z?":
                out[i] = "Z" if nxt in "DPOJ#QTIWR" and "V" not in out[:i] and "A" not in out[:i] and "Z" not in out[:i] else "S"
            elif t == "V":
                prev = out[i - 1] if i else "."
                if prev in "DJQ" or (nxt in "NS" and prev in "IoVC"):
                    out[i] = "J"
            elif t == "E" and i and out[i - 1] in "NSPO" and "A" not in out[:i] and "H" not in out[:i]:
                out[i] = "V"
            elif t == "Q":
                out[i] = "D"
            elif t == "D" and nxt not in "DJNSP#GEQR" and s[spans[i][0]:spans[i][1]].lower() in ("her", "this", "these", "those", "all", "some", "many", "most", "few", "much", "more", "several", "both"):
                out[i] = "O"
        return spans, "".join(out)
