"""Made-up facts: a group of statements to be hidden in documents, and the questions that ask for them.

A group is a list of statements (each to be put somewhere, in order) and a list of (kind, question, answer, evidence):
the statements that hold the answer, "" for questions without one. Kinds: needle, multikey, multivalue, multiquery, absent.
"""
from . import evidence, grammar, scenes
from . import templates as T


TOLD_LONG = [x for x in T.RELATIONS + scenes.SCENES if x[0] in ("phrase", "spot")]
LONG = 0.25  # share of the single facts whose value is a phrase or a place of several words


def cap(s):
    return s[:1].upper() + s[1:]


def plural(name):
    return name if name.endswith("s") else name[:-1] + "ies" if name.endswith("y") and name[-2] not in "aeiou" else name + "s"


def an(text):
    return text.replace(" a a", " an a").replace(" a e", " an e").replace(" a i", " an i").replace(" a o", " an o")


class Schema:
    """One relation or attribute with fixed wordings: makes statements and questions for keys."""

    def __init__(self, r, stock, attribute=None):
        check = stock.split == "check"
        self.r, self.stock = r, stock
        told = [] if check or attribute or r.random() > LONG else TOLD_LONG
        self.free = not check and not told and r.random() < 0.55
        if self.free:
            self.value_kind = r.choice(list(grammar.HEADS))
            head = r.choice(grammar.HEADS[self.value_kind])
            self.a = r.choice((f"{stock.any_word(r)} {head}", head, f"{stock.any_word(r)} {head}", f"{stock.any_word(r)} {stock.any_word(r)}"))
            self.qa = self.a if r.random() < 0.8 or head not in self.a else head
            if stock.lexicon and stock.lexicon.nouns and r.random() < 0.35:  # stated by one noun, asked by another of the same meaning
                noun, other = r.choice(stock.lexicon.nouns)
                word = "" if r.random() < 0.5 else stock.any_word(r) + " "
                self.a, self.qa = word + noun, word + other
            elif stock.lexicon and stock.lexicon.meanings and r.random() < 0.25:  # asked by what the noun means, or by its kind
                self.a, gloss, above = r.choice(stock.lexicon.meanings)
                self.qa = above if above and r.random() < 0.4 else gloss
            self.key_kind = r.choice(("thing", "person", "town", "project", "numbered", "company", "hyphen", "name", "creature_the", "file_name"))
            self.states, self.asks, self.plural = grammar.ATTR_STATE, grammar.ATTR_ASK, True
        elif not told and (attribute if attribute is not None else r.random() < 0.5):
            self.value_kind, names, asked = r.choice(T.ATTRIBUTES_CHECK if check else T.ATTRIBUTES)
            self.a, self.qa = r.choice(names), r.choice(asked)
            self.key_kind = r.choice(("thing", "person", "town", "project", "numbered", "company", "hyphen", "hyphen"))
            self.states, self.asks = (T.STATE_CHECK, T.ASK_CHECK) if check else (T.STATE, T.ASK)
            self.plural = True
        else:
            self.value_kind, kinds, self.states, self.asks = r.choice(T.RELATIONS_CHECK if check else told or (T.RELATIONS if r.random() < 0.45 else scenes.SCENES))
            self.a = self.qa = ""
            self.key_kind = r.choice(kinds)
            self.plural = False

    def key(self):
        return getattr(self.stock, self.key_kind)(self.r)

    def value(self):
        return getattr(self.stock, self.value_kind)(self.r)

    def state(self, k, v, form=None):
        s = an((form or self.r.choice(self.states)).format(k=k, K=cap(k), v=v, a=self.a, p=plural(self.a)))
        return grammar.dress(self.r, s) if self.free else cap(s)

    def ask(self, k, plain=0.0):
        """A question for the value of a key; with the chance `plain` one that names the key and the kind of value alone."""
        if self.stock.split == "train" and self.value_kind in scenes.PLAIN and self.r.random() < plain:
            return cap(self.r.choice(scenes.PLAIN[self.value_kind]).format(k=k))
        return cap(self.r.choice(self.asks).format(k=k, a=self.qa))


def vary(r, q):
    """The ways people type one question."""
    if r.random() < 0.12:
        q = q.lower() if not any(c.isdigit() for c in q) else q
    if r.random() < 0.12:
        q = q.rstrip("?.")
    if r.random() < 0.06:
        q = r.choice(("Question: ", "Please answer: ", "Q: ", "Tell me: ", "Answer from the documents: ")) + q
    return q


def lookalikes(r, schema, n):
    """n different keys that differ little from each other."""
    keys = [schema.key()]
    base = keys[0].split()
    for _ in range(n * 6):
        if len(keys) == n:
            break
        other = schema.key().split()
        if len(other) == len(base) and len(base) > 1 and r.random() < 0.7:
            j = r.randrange(len(base))
            other = base[:j] + other[j:j + 1] + base[j + 1:]
        k = " ".join(other)
        if k not in keys:
            keys.append(k)
    return keys


def held(statement, value):
    """The part of a statement that is quoted before the answer."""
    at = statement.lower().find(value.lower())
    return evidence.window(statement, at, at + len(value)) if at >= 0 else None


def group(r, stock, room=400):
    """One group; `room` tokens are left for it."""
    if stock.split == "train" and room > 300 and r.random() < 0.25:
        return crowd(r, stock, min(20, room // 30))
    if r.random() < 0.4 and stock.split == "train":
        st, qs = grammar.story(r, stock, r.choice((1, 1, 2, 3, 5)))
        out = [("needle", cap(q), a, held(s, a)) for q, a, s in qs]
        if r.random() < 0.08:
            out.append(("absent", cap(grammar.story(r, stock, 1)[1][0][0]), T.ABSENT, ""))
        return st, out
    s = Schema(r, stock)
    kind = r.choices(("needle", "multikey", "multivalue", "multiquery"), (5, 4, 1.6, 1.6))[0]
    if kind == "needle":
        k, v = s.key(), s.value()
        st = [s.state(k, v)]
        qs = [(kind, s.ask(k, 0.1), v, held(st[0], v))]
        if r.random() < 0.08:
            missing = s.key() if r.random() < 0.5 else lookalikes(r, s, 3)[-1]
            if missing != k:
                qs.append(("absent", s.ask(missing), T.ABSENT, ""))
        return st, qs
    if kind == "multikey":
        keys = lookalikes(r, s, r.randint(2, 6))
        form = r.choice(s.states) if r.random() < 0.6 else None
        vals = [s.value() for _ in keys]
        st = [s.state(k, v, form) for k, v in zip(keys, vals)]
        qs = [(kind, s.ask(k), v, held(t, v)) for k, v, t in zip(keys, vals, st)]
        if len(keys) > 2 and r.random() < 0.06:
            out = r.randrange(len(keys))
            st = st[:out] + st[out + 1:]
            qs[out] = ("absent", qs[out][1], T.ABSENT, "")
        return st, r.sample(qs, min(len(qs), 3))
    s = Schema(r, stock, attribute=True)
    n = r.randint(2, 4)
    form = r.choice(s.states) if r.random() < 0.7 else None
    if kind == "multivalue":
        k = s.key()
        vals = []
        while len(vals) < n:
            v = s.value()
            if v not in vals:
                vals.append(v)
        st = [s.state(k, v, form) for v in vals]
        return st, [(kind, r.choice(T.MANY_ASK).format(a=s.qa, p=plural(s.qa), k=k), ", ".join(vals), " ".join(st))]
    keys = lookalikes(r, s, n) if r.random() < 0.5 else list({s.key(): 0 for _ in range(n)})
    vals = [s.value() for _ in keys]
    order = r.sample(range(len(keys)), len(keys))
    ks = ", ".join(keys[i] for i in order[:-1]) + (" and " if len(order) > 1 else "") + keys[order[-1]]
    st = [s.state(k, v, form) for k, v in zip(keys, vals)]
    return st, [(kind, r.choice(T.MULTI_ASK).format(a=s.qa, p=plural(s.qa), ks=ks), ", ".join(vals[i] for i in order), " ".join(st[i] for i in order))]


def crowd(r, stock, most):
    """Many keys that look alike, told in one wording, side by side with others of another attribute; those asked for are there."""
    s = Schema(r, stock, attribute=True)
    n = r.randint(6, max(6, most))
    keys = lookalikes(r, s, n) if r.random() < 0.4 else list({s.key(): 0 for _ in range(n)})
    form = r.choice(s.states) if r.random() < 0.8 else None
    vals = [s.value() for _ in keys]
    st = [s.state(k, v, form) for k, v in zip(keys, vals)]
    qs = [("multikey", s.ask(k), v, held(t, v)) for k, v, t in zip(keys, vals, st)]
    qs = r.sample(qs, min(len(qs), 4))
    if s.plural and r.random() < 0.5:  # some of them asked together
        order = r.sample(range(len(keys)), min(len(keys), r.randint(2, 4)))
        ks = ", ".join(keys[i] for i in order[:-1]) + r.choice((" and ", ", and ")) + keys[order[-1]]
        qs.append(("multiquery", r.choice(T.MULTI_ASK).format(a=s.qa, p=plural(s.qa), ks=ks), ", ".join(vals[i] for i in order), " ".join(st[i] for i in order)))
    if s.plural and r.random() < 0.4:  # one key with several values
        k = s.key()
        many = list({s.value(): 0 for _ in range(r.randint(2, 4))})
        if k not in keys and len(many) > 1:
            more = [s.state(k, v, form) for v in many]
            st += more
            qs.append(("multivalue", r.choice(T.MANY_ASK).format(a=s.qa, p=plural(s.qa), k=k), ", ".join(many), " ".join(more)))
    if r.random() < 0.4:  # one of another attribute in the same wording, of a key that has none of the first
        t = Schema(r, stock, attribute=True)
        if t.states is s.states and t.a != s.a:
            k, v = s.key(), t.value()
            if k not in keys:
                st.append(t.state(k, v, form))
                qs.append(("multikey", t.ask(k), v, held(st[-1], v)))
    at = list(range(len(st)))
    if not any(q[0] == "multivalue" for q in qs):  # several values are answered in order of reading
        r.shuffle(at)
    return [st[i] for i in at], qs


def record_text(r, stock, rows):
    """A document that is nothing but look-alike records: (text, questions); a record's line is the evidence."""
    s = Schema(r, stock, attribute=True)
    keys, seen = [], set()
    kind = r.choice(("key", "uuid", "code", "hyphen"))
    for _ in range(rows):
        k = s.key() if kind == "key" else getattr(stock, kind)(r)
        if k not in seen:
            seen.add(k)
            keys.append(k)
    vals = [s.value() for _ in keys]
    style = r.randrange(8)
    if style == 0:
        lines = [f"| name | {s.a} |", "|---|---|"] + [f"| {k} | {v} |" for k, v in zip(keys, vals)]
    elif style == 1:
        lines = [f"{k}: {v}" for k, v in zip(keys, vals)]
    elif style == 2:
        lines = ["{"] + [f'  "{k}": "{v}",' for k, v in zip(keys, vals)] + ["}"]
    elif style == 3:
        lines = [f"name,{s.a}"] + [f"{k},{v}" for k, v in zip(keys, vals)]
    elif style == 4:
        lines = [f"{k} = {v}" for k, v in zip(keys, vals)]
    elif style == 5:
        lines = [f"- {cap(k)}: {s.a} {v}" for k, v in zip(keys, vals)]
    elif style == 6:
        lines = [f"{stock.date(r)} {stock.clock(r)} {k} {s.a}={v}" for k, v in zip(keys, vals)]
    else:
        form = r.choice(s.states)
        lines = [s.state(k, v, form) for k, v in zip(keys, vals)]
    held_in = dict(zip(keys, (x for x in lines if x not in ("{", "}", "|---|---|") and (style not in (0, 3) or x != lines[0]))))
    text = "\n".join(lines)
    if r.random() < 0.5:
        text = r.choice((f"{cap(s.a)} list\n\n", f"# {cap(plural(s.a))}\n", f"{cap(s.a)} of each:\n")) + text
    qs = [("multikey", s.ask(k), v, held_in[k].strip()) for k, v in r.sample(list(zip(keys, vals)), min(len(keys), 6))]
    if r.random() < 0.25:
        k = s.key() if kind == "key" else getattr(stock, kind)(r)
        if k not in seen:
            qs.append(("absent", s.ask(k), T.ABSENT, ""))
    return text, qs
