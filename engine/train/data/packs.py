"""Samples: documents, then questions with their answers, in the engine's own prompt format.

    BOS <User> {header text footer}* turn [<User> turn]*
    turn = question <Assistant> </think> answer EOS
         | question <Assistant> <think> evidence </think> answer EOS
         | question <Assistant> </think> opening answer EOS

A few samples are plain text without headers and footers, a line that says so before it.

Evidence is what the documents say that holds the answer, word for word (nothing before "Not found").
Every piece is tokenized by itself. A sample is three arrays of one length:
token ids, classes (what the loss weighs; READING = answers to natural questions, ANSWER = all others,
EVIDENCE = evidence and the </think> after it) and positions, which leap at document starts so that short samples reach far.
"""
import random

import numpy as np

import tokenizer as tk
from . import begun, chronicle, evidence, facts, glossary, natural, prose_tasks
from . import templates as T
from .words import Stock

PAD, FRAME, TEXT, QUESTION, ANSWER, READING, EVIDENCE = range(7)
MAX_POSITION = 131072

# chance of each kind of sample by length, and of each passage set; published in the model card
FLAVOURS = {"short": (("natural", 34), ("prose", 26), ("mixed", 32), ("records", 8)),
            "long": (("mixed", 64), ("natural", 24), ("prose", 8), ("records", 4))}
PASSAGES = (("written", 18), ("written_more", 24), ("written_more_2", 16), ("qed", 14), ("squad", 14), ("fairytaleqa", 8), ("covid-qa", 3), ("qamr", 3))


MIXED = (5, 4, 1)  # chances of a passage, a prose section, records for the next document of a mixed sample
TWINS = 0.12  # chance that a passage comes with copies of itself that have other names
NEAR = 0.12  # chance that one of a passage's questions is asked again with a name, number or word that makes it unanswerable
GLOSSARY = 0.2  # share of the record documents that are glossaries
CHRONICLE = 0.5  # share of them that are histories, title pages and conditions
PAIR = 0.05  # chance that a piece of prose comes in two or three versions under titles that differ little, and is asked by its title
BEGUN = 0.035  # share of the questions whose answer is begun for the model
PLAIN = 0.03  # share of the samples that are plain text without headers
PLAIN_LEAD = ("", "", "Read the following text carefully.\n", "Below is a long text. Questions about it follow.\n", "Here are some notes. Keep them in mind; you will be asked about them.\n",
              "A few facts are scattered through this text. Remember them.\n", "Text:\n", "The text to be read begins here.\n\n")
NEIGHBOURS = 0.4  # chance that the passages of a long sample are of one source and stand close to one another there (same book, same article)
SHOWN = 0.5  # share of the questions whose evidence is known that quote it first


class Doc:
    def __init__(self, name, pieces, sentences=None):
        self.name = name
        self.pieces = pieces          # token arrays in order
        self.sentences = sentences    # (first, last) of a prose section, piece i = sentence first + i
        self.inserts = []             # (piece number after which, tokens)

    def tokens(self):
        if not self.inserts:
            return self.pieces
        out, todo = [], sorted(self.inserts, key=lambda x: x[0])
        j = 0
        for i, p in enumerate(self.pieces):
            out.append(p)
            while j < len(todo) and todo[j][0] == i:
                out.append(todo[j][1])
                j += 1
        return out


class Builder:
    def __init__(self, corpus, tok, split="train", mix=None):
        """mix: what differs from FLAVOURS ("short", "long") and PASSAGES ("passages"), as {name: {kind: chance}}, from MIXED ("mixed") and
        SHOWN ("shown"); "asked": the most that people's questions may be of those of a mixed sample."""
        self.corpus, self.tok, self.stock, self.split = corpus, tok, Stock(split, corpus.vocabulary), split
        mix = mix or {}
        self.flavours = {k: tuple(mix.get(k, dict(v)).items()) for k, v in FLAVOURS.items()}
        self.passages = tuple(mix.get("passages", dict(PASSAGES)).items())
        self.mixed, self.shown, self.asked = mix.get("mixed", MIXED), mix.get("shown", SHOWN), mix.get("asked", 0.6)
        self.pools, self.lex = {}, corpus.lexicon
        if split == "train":
            for p in corpus.sets["qa_written_train"]:
                self.pools.setdefault(p.get("pool", "written"), []).append(p)
            for p in corpus.sets["qa_train"]:
                self.pools.setdefault(p["source"], []).append(p)
        self.stock.lexicon = corpus.lexicon if split == "train" else None
        self.answers = natural.pool(p for ps in self.pools.values() for p in ps)
        self.cache, self.ordered = {}, {}
        self.footer = self.enc("\n[file content end]\n")

    def enc(self, text):
        return np.asarray(self.tok.encode(text), np.uint16)

    def cached(self, text):
        if text not in self.cache:
            if len(self.cache) > 40000:
                self.cache.clear()
            self.cache[text] = self.enc(text)
        return self.cache[text]

    def header(self, name):
        return self.cached(f"[file name]: {name}\n[file content begin]\n")

    # documents ----------------------------------------------------------------

    def passage_source(self, r, long):
        kinds = [(k, w) for k, w in self.passages if self.pools.get(k) and not (k == "qamr" and long)]
        return r.choices([k for k, _ in kinds], [w for _, w in kinds])[0] if kinds else None

    def neighbours(self, r, n):
        """(source, passages) that stand together in their source and fill about n tokens."""
        kind = self.passage_source(r, True)
        if kind is None:
            return None
        if kind not in self.ordered:
            self.ordered[kind] = sorted(self.pools[kind], key=lambda p: p["name"])
        row = self.ordered[kind]
        size = min(len(row), max(4, n // 220))
        at = r.randint(0, len(row) - size)
        return kind, r.sample(row[at:at + size], size)

    def passage_doc(self, r, long, ask, near=None):
        """A passage as a document, where given the next of `near`; its questions where asked for."""
        kind, p = self.passage_source(r, long), None
        if near and near[1]:
            kind, p = near[0], near[1].pop()
        if kind is None:
            return None, []
        p = p or r.choice(self.pools[kind])
        name, text, qs = natural.prepare(r, self.stock, p, augment=ask, most=0 if not ask else 3 if long else 5, answers=self.answers, lex=self.lex)
        if kind in ("qamr", "covid-qa", "squad") or r.random() < 0.15:
            name = self.stock.file_name(r) if kind != "squad" or r.random() < 0.3 else name
        doc = Doc(name, [self.enc(text) if ask else self.cached(text)])
        if not ask:
            return doc, []
        must = kind == "qamr" or (kind in ("fairytaleqa", "covid-qa") and r.random() < 0.6)
        if qs and r.random() < NEAR:
            q = natural.strange(r, self.stock, r.choice(qs)[1], text, self.lex)
            qs += [("absent", q, T.ABSENT, "")] if q else []
        qs = [(k, natural.ask(r, q, name, must, self.lex), a, e) for k, q, a, e in qs]
        if kind != "qamr":
            plain = evidence.clean(text)
            for a, b in r.choices(evidence.sentences(plain), k=6 if self.lex else 1):
                made = prose_tasks.question(r, plain[a:b], self.lex)
                if made:
                    qs.append(("prose", natural.other_words(r, made[0], self.lex), made[1], evidence.window_of(plain[a:b], made[1])))
        return doc, qs

    def twin_docs(self, r, left):
        """A passage and copies of it with other names and numbers: [(doc, questions)]; questions name the copy they mean."""
        kind = self.passage_source(r, True)
        p = r.choice(self.pools[kind]) if kind else None
        if p is None or len(p["text"]) > left:  # a quarter of the room for each
            return []
        out, names = [], set()
        copies = natural.twins(r, self.stock, p, min(r.choice((2, 2, 3, 4)), left * 3 // len(p["text"])), self.answers)
        for name, text, qs in copies:
            if name in names or r.random() < 0.2:
                name = self.stock.file_name(r)
            names.add(name)
            qs = [(k, natural.ask(r, q, name, not named, self.lex), a, e) for k, q, a, e, named in qs]
            out.append((Doc(name, [self.enc(text)]), qs))
        return out

    def pair_docs(self, r, left):
        """One piece of prose in two or three versions that share most of their text and nearly their title: [(doc, questions)]; each question names its version.

        A title page before the text tells what differs besides the names and numbers: date, holder, number of the version."""
        name, lo, hi = self.corpus.section(r, min(left // 4, r.choice((150, 300, 600, 1200))), self.split)
        parts = [self.corpus.sentence(i) for i in range(lo, hi)]
        if not parts:
            return []
        text = "".join(parts)
        titles = chronicle.titles(r, self.stock, r.choice((2, 2, 3)))
        out = []
        for title, short in titles:
            table = natural.exchange(r, self.stock, text, 0.5, 0.7)
            head, qs = chronicle.front(r, self.stock, title, short)
            name = short if r.random() < 0.7 else title
            changed = [i for i, s in enumerate(parts) if natural.put(table, s) != s]
            for i in r.choices(changed, k=30) if changed else ():
                s = natural.put(table, parts[i])
                made = prose_tasks.question(r, s, self.lex) if len(qs) < 6 else None
                if made and made[1] not in parts[i] and natural.put(table, made[1]) == made[1]:
                    q = r.choice(T.ACCORDING).format(n=r.choice((title, natural.spoken(r, name))), q=made[0][:1].lower() + made[0][1:], Q=made[0])
                    qs.append(("prose", natural.other_words(r, q, self.lex), made[1], evidence.window_of(s, made[1])))
            out.append((Doc(name, [self.enc(head + "\n\n" + natural.put(table, text))]), qs))
        return out

    def section_doc(self, r, n):
        name, lo, hi = self.corpus.section(r, n, self.split)
        if hi <= lo:
            return None
        pieces = [self.corpus.tokens(i) for i in range(lo, hi)]
        if r.random() < 0.2:
            name = self.stock.file_name(r)
        return Doc(name, pieces, (lo, hi))

    def glossary_doc(self, r, n):
        """Words and their meanings from WordNet, and questions for the one or the other."""
        text, qs = glossary.text(r, self.lex, max(4, min(n // 20, 40)))
        return Doc(self.stock.file_name(r) if r.random() < 0.6 else r.choice(glossary.NAMES), [self.enc(text)]), qs

    def record_doc(self, r, n):
        if self.lex and self.split == "train" and n > 100 and r.random() < GLOSSARY:
            return self.glossary_doc(r, n)
        if self.split == "train" and n > 100 and r.random() < CHRONICLE:
            name, text, qs = chronicle.text(r, self.stock, n)
            return Doc(name, [self.enc(text)]), [(k, natural.other_words(r, facts.vary(r, q), self.lex) if r.random() < 0.5 else facts.vary(r, q), a, e) for k, q, a, e in qs]
        text, qs = facts.record_text(r, self.stock, max(2, n // 18))
        ids = self.enc(text)
        if len(ids) > n * 1.6:
            return None, []
        return Doc(self.stock.file_name(r), [ids]), [(k, facts.vary(r, q), a, e) for k, q, a, e in qs]

    def documents(self, r, budget, flavour, want):
        """Documents of about `budget` tokens and candidate questions (kind, question, answer, evidence), about `want` of them."""
        docs, qs, left, long = [], [], budget, budget > 6000
        near = self.neighbours(r, budget) if long and self.pools and r.random() < NEIGHBOURS else None
        plain = 0  # tries in a row that did not fit
        while left > 50:
            kind = flavour if flavour != "mixed" else r.choices(("natural", "prose", "records"), self.mixed)[0]
            new = []
            pair = kind == "prose" and self.split == "train" and left > 700 and r.random() < PAIR
            if pair or (kind == "natural" and r.random() < TWINS and left > 350):
                for doc, new in (self.pair_docs if pair else self.twin_docs)(r, left):
                    size = len(doc.pieces[0]) + 30
                    if size <= left:
                        docs.append(doc)
                        qs += new
                        left -= size
                continue
            if kind == "natural":
                doc, new = self.passage_doc(r, long, ask=len([q for q in qs if q[0] == "natural"]) < want * (1 if flavour == "natural" else self.asked), near=near)
            elif kind == "records":
                doc, new = self.record_doc(r, min(left, int(r.choice((60, 120, 250, 500, 1000, 2000)))))
            else:
                cap = left if r.random() < 0.35 else max(80, int(left * r.random() ** 2))
                doc = self.section_doc(r, min(left - 30, cap))
            size = sum(len(p) for p in doc.pieces) + 30 if doc else 0
            if doc is None or size > left:
                plain += 1
                if plain > 8:
                    break
                continue
            plain = 0
            docs.append(doc)
            qs += new
            left -= size
        r.shuffle(docs)
        return docs, qs

    def hide(self, r, docs, statements):
        """Puts statements into prose documents in order of reading; False where there is no room."""
        slots = [(i, j) for i, d in enumerate(docs) if d.sentences for j in range(len(d.pieces))]
        if not slots:
            return False
        for s, (i, j) in zip(statements, sorted(r.choice(slots) for _ in statements)):
            lead = " " if r.random() < 0.8 else "\n"
            docs[i].inserts.append((j, self.enc(lead + s)))
        return True

    # questions ----------------------------------------------------------------

    def fact_questions(self, r, docs, room):
        """Hides fact groups within `room` tokens; a memo document takes them where there is no prose."""
        qs, used = [], 0
        memo = []
        while used < room:
            st, new = facts.group(r, self.stock, room - used)
            used += 24 * len(st)
            if not self.hide(r, docs, st):
                memo += st
            if self.lex and r.random() < 0.45:  # other words than the statement's; a wrong key would be no key, so not where keys look alike
                new = [(k, self.lex.reword(r, q, 0.4) if k == "needle" else q, a, e) for k, q, a, e in new]
            qs += [(k, facts.vary(r, q), a, e) for k, q, a, e in new]
        if memo:
            docs.insert(r.randint(0, len(docs)), Doc(self.stock.file_name(r), [self.enc(" ".join(memo))]))
        return qs

    def prose_questions(self, r, docs, n):
        out = []
        prose = [d for d in docs if d.sentences]
        if not prose:
            return out
        weights = [len(d.pieces) for d in prose]
        asked = {id(d): set() for d in prose}  # sentences that a question rests on: they stay
        names = [d.name for d in docs]
        for _ in range(3 * n if self.lex else n):  # most sentences give no question
            if len(out) >= n:
                break
            d = r.choices(prose, weights)[0]
            j = r.randrange(len(d.pieces))
            if self.lex and r.random() < 0.2:  # reasons are rare among sentences, and asked for
                near = r.choices(range(len(d.pieces)), k=10)
                j = next((i for i in near if prose_tasks.REASON.search(self.corpus.sentence(d.sentences[0] + i))), j)
            if not len(d.pieces[j]):
                continue
            kept = asked[id(d)]
            s = self.corpus.sentence(d.sentences[0] + j)
            if len(docs) > 1 and names.count(d.name) == 1 and r.random() < (0.06 if self.lex else 0.14):
                q = prose_tasks.which_document(r, s)
                if q:
                    out.append(("document", q, d.name, None))
                    kept.add(j)
                continue
            if r.random() < (0.1 if self.lex else 0.22) and len(d.pieces) > 5 and j not in kept:
                q = self.recurring(r, d, j, kept)
                if q:
                    out.append(q)
                    continue
            qa = prose_tasks.question(r, s, self.lex)
            if not qa:
                continue
            if r.random() < 0.02:
                q = natural.strange(r, self.stock, qa[0], " ".join(self.corpus.sentence(d.sentences[0] + i) for i in range(max(0, j - 3), min(len(d.pieces), j + 4))))
                if q:
                    out.append(("absent", q, T.ABSENT, ""))
                    continue
            q = natural.other_words(r, qa[0], self.lex)
            if len(docs) > 1 and names.count(d.name) == 1 and r.random() < 0.2:
                q = r.choice(T.ACCORDING).format(n=natural.spoken(r, d.name), q=q[:1].lower() + q[1:], Q=q)
            if r.random() < 0.04 and len(d.pieces) > 3 and j not in kept:
                d.pieces[j] = d.pieces[j][:0]
                out.append(("absent", q, T.ABSENT, ""))
            else:
                kept.add(j)
                out.append(("prose", q, qa[1], evidence.window_of(s, qa[1])))
        return out

    def recurring(self, r, d, j, kept):
        """Takes a sentence out and asks for a name or number of it that its neighbours mention as well."""
        first = d.sentences[0]
        s = prose_tasks.clean(self.corpus.sentence(first + j))
        around = {i: " " + prose_tasks.clean(self.corpus.sentence(first + i)) for i in range(max(0, j - 12), min(len(d.pieces), j + 13)) if i != j and len(d.pieces[i])}
        near = "".join(around.values())
        spans = [m.span(1) for p in (prose_tasks.NAME, prose_tasks.NUMBER) for m in p.finditer(s) if m.group(1).split()[0] not in prose_tasks.STARTERS]
        spans = [(a, b) for a, b in spans if " " + s[a:b] in near]
        if not spans or not 40 < len(s) < 400:
            return None
        a, b = r.choice(spans)
        holders = [i for i, t in around.items() if evidence.places(t, s[a:b])]
        if not holders:
            return None
        d.pieces[j] = d.pieces[j][:0]
        before, after = prose_tasks.window(r, s, a, b, 16)
        asked = evidence.stems(s)
        shown = evidence.choose(around[max(holders, key=lambda i: len(evidence.stems(around[i]) & asked))], s, s[a:b])
        kept.update(holders)
        return "prose", r.choice(("Who or what is meant: {} ____ {}", "{} ____ {}", "{} who or what {}?", "{} which number {}?" if s[a].isdigit() else "{} who {}?" if s[a].isupper() else "{} what {}?")).format(before, after), s[a:b], shown

    def foreign_questions(self, r, docs, n, long):
        """Questions about passages and prose that are not here."""
        out, names = [], {d.name for d in docs}
        for _ in range(n):
            kind = self.passage_source(r, True)
            if r.random() < 0.6 or kind is None or kind in ("fairytaleqa", "covid-qa"):
                name, lo, hi = self.corpus.section(r, 300, self.split)
                qa = prose_tasks.question(r, self.corpus.sentence(r.randrange(lo, max(hi, lo + 1))), self.lex)
                if qa and name not in names:
                    out.append(("absent", facts.vary(r, natural.other_words(r, qa[0], self.lex)), T.ABSENT, ""))
                continue
            p = r.choice(self.pools[kind])
            if p["qas"] and (p["name"] not in names or not long):
                out.append(("absent", facts.vary(r, natural.other_words(r, r.choice(p["qas"])["question"], self.lex)), T.ABSENT, ""))
        return out

    def sample(self, seed, length):
        """ids uint16, classes uint8, positions int32, each [length]."""
        r = random.Random(seed)
        share = r.uniform(0.22, 0.5)
        q_budget = int(min(share * length, 500 + length * 0.2, r.uniform(1500, 4500 + 0.06 * length)))
        flavours = self.flavours["long" if length > 4096 else "short"]
        flavour = r.choices([f for f, _ in flavours], [w for _, w in flavours])[0]
        budget = length - q_budget - 12
        want = max(3, q_budget // (26 if length < 1500 else 30))
        room = 0
        if flavour in ("prose", "mixed") or r.random() < 0.15:
            room = min(int(budget * r.uniform(0.05, 0.3)), q_budget)
        docs, qs = self.documents(r, budget - room, flavour, want)
        if room:
            qs += self.fact_questions(r, docs, room)
        removed = self.prose_questions(r, docs, want if flavour == "prose" else int(want * 0.6))
        qs += removed
        qs += self.foreign_questions(r, docs, max(r.random() < 0.15, want // 60), length > 4096)
        r.shuffle(qs)
        plain = self.split == "train" and flavour in ("prose", "mixed") and r.random() < PLAIN * 2
        return self.assemble(r, docs, qs, length, r.choice(PLAIN_LEAD) if plain else None)

    def assemble(self, r, docs, qs, length, lead=None):
        """lead: what a plain text begins with; None for documents with headers."""
        parts, starts, n, cut = [(FRAME, [tk.BOS, tk.USER])], [], 2, False
        footer = self.footer if lead is None else self.cached("\n")
        if lead is not None:  # nothing can be asked by a document's name
            names = [d.name.rsplit(".", 1)[0].lower() for d in docs]
            qs = [q for q in qs if q[0] != "document" and not any(x in q[1].lower() for x in names)]
        for d in docs:
            starts.append(n)
            pieces = d.tokens()
            body = np.concatenate(pieces) if pieces else np.zeros(0, np.uint16)
            head = self.header(d.name) if lead is None else self.cached(lead if d is docs[0] else "")
            room = length - n - len(head) - len(footer) - 64
            if room < 8:
                cut = True
                break
            cut = cut or room < len(body)
            for c, ids in ((FRAME, head), (TEXT, body[:room]), (FRAME, footer)):
                parts.append((c, ids))
                n += len(ids)
        starts.append(n)
        if cut:
            qs = self.still_answered(qs, parts)
        first, seen, absent = True, set(), 0
        for kind, q, a, shown in qs:
            if q in seen or (kind == "absent" and absent > len(seen) // 9):
                continue
            begin = None
            if kind not in ("absent", "document") and r.random() < (BEGUN if lead is None else 0.4) and not a.startswith(" "):
                begin = begun.opening(r, kind, q, a, shown)
            qi, ai = self.enc(q), self.cached(a) if a == T.ABSENT else self.enc(a if begin is None else " " + a)
            bi = self.enc(begin if r.random() < 0.5 else " " + begin) if begin is not None else ()
            ei = self.enc(shown) if begin is None and shown is not None and r.random() < self.shown else None
            size = len(qi) + len(bi) + len(ai) + 4 + (0 if ei is None else len(ei) + 1)
            if n + size > length or len(qi) > 120 or len(ai) > 110 or not len(ai) or (ei is not None and len(ei) > 220):
                continue
            seen.add(q)
            absent += kind == "absent"
            kind_class = READING if kind == "natural" else ANSWER
            if not first:
                parts.append((FRAME, [tk.USER]))
            parts += [(QUESTION, qi), (FRAME, [tk.ASSISTANT, tk.END_THINK]), (FRAME, bi)] if ei is None else \
                [(QUESTION, qi), (FRAME, [tk.ASSISTANT, tk.THINK]), (EVIDENCE, ei), (EVIDENCE, [tk.END_THINK])]
            parts += [(kind_class, ai), (kind_class, [tk.EOS])]
            n += size - first
            first = False
        ids, cls = np.full(length, tk.PAD, np.uint16), np.zeros(length, np.uint8)
        at = 0
        for c, x in parts:
            ids[at:at + len(x)] = x
            cls[at:at + len(x)] = c
            at += len(x)
        return ids, cls, positions(r, starts, length)

    def still_answered(self, qs, parts):
        """The questions whose evidence, or where none is known whose answer, the documents hold after some of their text was cut off."""
        text = evidence.clean(self.tok.decode([int(i) for c, x in parts if c in (FRAME, TEXT) for i in x]))
        return [q for q in qs if q[0] in ("absent", "multivalue", "multiquery") or evidence.clean(q[3] or q[2]) in text]


def positions(r, starts, length):
    """0..length-1 with gaps at document starts (the last start is the first question's) that sum to a random spread."""
    pos = np.arange(length, dtype=np.int32)
    spare = MAX_POSITION - length
    if spare <= 0 or r.random() < 0.25:
        return pos
    spread = int(min(spare, length * (2 ** r.uniform(0, 9))))
    cuts = sorted(r.random() for _ in starts)
    jump = np.zeros(length, np.int32)
    before = 0
    for s, c in zip(starts, cuts):
        if s < length:
            jump[s] += int(c * spread) - before
            before = int(c * spread)
    return pos + np.cumsum(jump, dtype=np.int32)
