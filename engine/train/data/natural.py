"""Passages with questions that people would ask, and what is done to them so that they cannot be learnt by heart.

With some chance most names and numbers, or an answer (a number, a year, a date, a name, a plain noun phrase), are
replaced throughout passage, questions and answers by others of their kind, so
that only reading gives the answer; a passage stands beside copies of itself with other names; sentences are dropped; the sentence with the answer is taken out and the question becomes
unanswerable; lines are wrapped as in plain-text files.
"""
import re
import textwrap

from . import evidence
from . import templates as T
from .facts import vary
from .synonyms import reword, thin

YEAR = re.compile(r"^(1[0-9]|20)\d\d$")
NUM = re.compile(r"^\d[\d,.]*%?$")
DATE = re.compile(r"^(\d{1,2} [A-Z][a-z]+|[A-Z][a-z]+ \d{1,2}|[A-Z][a-z]+)(,? \d{4})$|^\d{1,2} [A-Z][a-z]+$")
PROPER = re.compile(r"^[A-Z][a-z]+(?: [A-Z][a-z]+){0,2}$")
SENT = re.compile(r"(?<=[.!?])\s+")
INSIDE = re.compile(r"(?<=[a-z,;'\"(“] )[A-Z][a-z]{2,}(?![A-Za-z0-9_])")
FIGURE = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w-])")
TOKEN = re.compile(r"(?<![A-Za-z0-9_])[A-Z][a-z]{2,}(?![A-Za-z0-9_])|(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w-])")
LOWER = re.compile(r"(?<![A-Za-z0-9_])[a-z]{3,}(?![A-Za-z0-9_])")
WH = re.compile(r"\b(?:who|whom|whose|when|where|why|which|how many|how much|how long|how|what)\b")
KEPT = set("""January February March April May June July August September October November December Monday Tuesday Wednesday Thursday Friday Saturday Sunday
The This That These Those And But Who What When Where Why How God Lord Sir Mrs Miss Dr Captain King Queen Prince President Saint""".split())


def substitute(r, stock, answer):
    """Another value of the same kind, or None."""
    if YEAR.match(answer):
        return str(max(1000, min(2040, int(answer) + r.randint(-60, 60))))
    if NUM.match(answer):
        return re.sub(r"\d", lambda m: str(r.randint(1, 9)), answer)
    if DATE.match(answer) and any(c.isdigit() for c in answer):
        month = r.choice("January February March April May June July August September October November December".split())
        return re.sub(r"\d+", lambda m: str(r.randint(1, 28)) if len(m.group()) < 3 else str(r.randint(1700, 2030)), re.sub(r"[A-Z][a-z]+", month, answer))
    if PROPER.match(answer):
        n = len(answer.split())
        return (stock.town(r) if r.random() < 0.5 else r.choice(stock.last)) if n == 1 else stock.person(r) if n == 2 else \
            f"{r.choice(stock.first)} {r.choice(stock.last)} {r.choice(stock.last)}"
    return None


def swap(text, old, new):
    return re.sub(r"(?<!\w)" + re.escape(old) + r"(?!\w)", lambda m: new, text)


def exchange(r, stock, text, names, numbers):
    """{name or number: another}, one for each chosen of those that stand in a text, with these chances."""
    out = {}
    for w in dict.fromkeys(INSIDE.findall(text)):
        if w not in KEPT and r.random() < names:
            out[w] = stock.name(r) if r.random() < 0.5 else stock.town(r) if r.random() < 0.4 else r.choice(stock.last)
    if numbers:
        for w in dict.fromkeys(FIGURE.findall(text)):
            if r.random() < numbers:
                out[w] = substitute(r, stock, w) or w
    return out


def put(table, text):
    """A text with the names and numbers of a table exchanged; a text all in lower case as well."""
    if text is None:
        return None
    out = TOKEN.sub(lambda m: table.get(m.group(), m.group()), text)
    if text.islower():
        small = {k.lower(): v.lower() for k, v in table.items()}
        out = LOWER.sub(lambda m: small.get(m.group(), m.group()), out)
    return out


def shape(question, answer):
    """What a plain noun phrase must share with another to stand in its place; None for other answers."""
    words = answer.split()
    if not 0 < len(words) <= 4 or not answer.replace(" ", "").replace("-", "").isalpha() or not answer.islower() or len(answer) < 4:
        return None
    if len(words) > 2 and words[0] not in ("a", "an", "the", "his", "her", "their", "its"):
        return None
    asked = WH.search(question.lower())
    return asked.group() if asked else "", words[0] if words[0] in ("a", "an", "the", "his", "her", "their", "its") else "", len(words), words[-1].endswith("s")


def pool(passages):
    """{shape: answers} of many passages."""
    out = {}
    for p in passages:
        for q in p["qas"]:
            key = shape(q["question"], q["answer"]) if q["answer"] else None
            if key:
                out.setdefault(key, []).append(q["answer"])
    return {k: v for k, v in out.items() if len(v) > 20}


def twins(r, stock, passage, n, answers):
    """A passage n times with all names and numbers different: [(name, text, [(kind, question, answer, evidence, named)])].

    `named` says that the question holds a name or number that only its own copy has. The last copy's list may
    end with a question about a further copy that is not there.
    """
    qas = [(q["question"], q["answer"]) for q in passage["qas"] if q["answer"]]
    out, all_text = [], ""
    for i in range(n):
        table = exchange(r, stock, passage["text"], 1.0, 0.9)
        text, mine = put(table, passage["text"]), [(put(table, q), put(table, a), put(table, q) != q) for q, a in qas]
        for j in r.sample(range(len(mine)), min(len(mine), 3)):
            q, a, named = mine[j]
            key = shape(q, a)
            new = r.choice(answers[key]) if key in answers else None
            if new and text.count(a) < 3 and new not in text:
                text = swap(text, a, new)
                mine = [(q2, swap(a2, a, new), k) for q2, a2, k in mine]
        mine = [(q, a, k) for q, a, k in mine if a in text]
        all_text += text
        out.append((put(table, passage["name"]), text, [("natural", q, a, evidence.choose(text, q, a), k) for q, a, k in r.sample(mine, min(len(mine), 3))]))
    if qas and r.random() < 0.15:
        q = r.choice(qas)[0]
        other = put(exchange(r, stock, passage["text"], 1.0, 0.9), q)
        strange = [w for w in TOKEN.findall(other) if w not in TOKEN.findall(q)]
        if strange and not any(w in all_text for w in strange):
            out[-1][2].append(("absent", other, T.ABSENT, "", True))
    return out


def strange(r, stock, question, text, lex=None):
    """A question with one of its names, numbers or (with a lexicon) other telling words exchanged so that the text no longer answers it, or None."""
    if lex and r.random() < 0.55:
        return strange_word(r, lex, question, text)
    found = [m for m in TOKEN.finditer(question) if m.start() and m.group() not in KEPT and m.group() in text]
    if not found:
        return None
    m = r.choice(found)
    w = m.group()
    new = substitute(r, stock, w) if w[0].isdigit() else stock.name(r) if r.random() < 0.5 else r.choice(stock.last)
    return None if not new or new in text or new in question else question[:m.start()] + new + question[m.end():]


OPPOSITE = {a: b for x, y in (w.split() for w in """first last|oldest youngest|largest smallest|biggest smallest|highest lowest|longest shortest|before after|above below|more less|most fewest|north south|
east west|northern southern|eastern western|left right|earlier later|early late|male female|older younger|best worst|open closed|begin end|began ended|started ended|start finish|allowed forbidden|won lost|win lose|
increase decrease|increased decreased|buy sell|bought sold|accept reject|accepted rejected|married divorced|arrive leave|arrived left|gained lost|alive dead|minimum maximum|least most|inside outside|
top bottom|rise fall|rose fell|hot cold|rich poor|always never|day night|summer winter|public private|internal external|lower upper|new old|good bad|strong weak""".replace("\n", "").split("|")) for a, b in ((x, y), (y, x))}


def strange_word(r, lex, question, text):
    """A question with one word that it shares with the text turned into its opposite or into another of its kind that the text does not have, or None."""
    low = text.lower()
    spans, tags = lex.tag(question)
    found = []
    for (a, b), t in zip(spans, tags):
        w = question[a:b]
        if not w.isalpha() or not w.islower() or len(w) < 3 or w[:5] not in low:
            continue
        other = OPPOSITE.get(w)
        if other and not re.search(rf"\b{other}\b", low):
            found += [(a, b, other)] * 3
        elif t in "NS" and len(w) > 3:
            pool = lex.alike.get((t, lex.field(w)))
            other = r.choice(pool) if pool and len(pool) > 5 else None
            if other and other[:5] not in low and other not in lex.same.get(w, ()) and w not in lex.same.get(other, ()):
                found.append((a, b, other))
    if not found:
        return None
    a, b, other = r.choice(found)
    return question[:a] + other + question[b:]


def estrange(r, lex, text, qas, chance):
    """(text, questions) where words that question and passage share stand for others of their kind in both: what a question says is new each time,
    and still leads to its answer. A word stays where another form of it stands in the passage, since only this one would be exchanged."""
    table, low = {}, text.lower()
    for q, a in qas:
        if not a:
            continue
        spans, tags = lex.tag(q)
        for (x, y), t in zip(spans, tags):
            w = q[x:y]
            if t not in "NSJVB" or len(w) < 4 or not w.isalpha() or not w.islower() or w in table or r.random() > chance:
                continue
            stem = w[:max(4, len(w) - 3)]
            forms = set(re.findall(rf"(?<![a-z]){stem}[a-z]*", low))
            if forms != {w} or len(table) > 12 or w in a:
                continue
            pool = lex.alike.get((t, lex.field(w) if t in "NS" else 0))
            new = r.choice(pool) if pool and len(pool) > 5 else None
            if new and new[:4] not in low and new not in table.values():
                table[w] = new
    if not table:
        return text, qas
    turn = lambda s: s and LOWER.sub(lambda m: table.get(m.group(), m.group()), s)
    return turn(text), [(turn(q), turn(a)) for q, a in qas]


def exchange_words(r, lex, text, qas):
    """(text, questions) where some words of some answers stand for others of their kind, wherever they stand."""
    for q, a in r.sample(qas, min(len(qas), 4)):
        if not a or r.random() < 0.4 or a not in text:
            continue
        spans, tags = lex.tag(a)
        found = [(a[x:y], t) for (x, y), t in zip(spans, tags) if t in "NSJVB" and a[x:y].islower() and a[x:y].isalpha() and y - x > 3]
        for w, t in r.sample(found, min(len(found), 2 if len(found) > 3 else 1)):
            pool = lex.alike.get((t, lex.field(w) if t in "NS" else 0))
            new = r.choice(pool) if pool and len(pool) > 5 else None
            if not new or new in text or len(re.findall(rf"(?<!\w){w}(?!\w)", text)) > 4:
                continue
            text = swap(text, w, new)
            qas = [(swap(q2, w, new), swap(a2, w, new) if a2 else a2) for q2, a2 in qas]
    return text, [(q, a) for q, a in qas if a is None or a in text]


def prepare(r, stock, passage, augment=True, most=99, answers=None, lex=None):
    """(name, text, [(kind, question, answer, evidence)]) of one passage, with at most `most` of its questions."""
    name, text = passage["name"], passage["text"]
    qas = [(q["question"], q["answer"]) for q in passage["qas"] if q["answer"] or not augment or r.random() < 0.6]
    how = r.random() if augment else 1.0
    if how < 0.6:
        table = exchange(r, stock, text, r.choice((0.5, 0.8, 1.0)), r.choice((0.0, 0.5, 0.9)))
        name, text, qas = put(table, name), put(table, text), [(put(table, q), put(table, a)) for q, a in qas]
    if augment and lex and r.random() < 0.6:
        text, qas = exchange_words(r, lex, text, qas)
    if augment and lex and r.random() < 0.5:
        text, qas = estrange(r, lex, text, qas, r.choice((0.4, 0.7, 1.0)))
    if how < 0.85:
        for q, a in r.sample(qas, len(qas))[:3]:
            if not a:
                continue
            key = shape(q, a)
            new = r.choice(answers[key]) if answers and key in answers and text.count(a) < 4 and r.random() < 0.6 else substitute(r, stock, a) if how > 0.3 else None
            if new and new != a and (len(a) > 3 or NUM.match(a)):
                text = swap(text, a, new)
                qas = [(swap(q2, a, new) if q2 != q else q2, swap(a2, a, new) if a2 else a2) for q2, a2 in qas]
        qas = [(q, a) for q, a in qas if a is None or a in text]
    if augment and r.random() < 0.25:
        parts = SENT.split(text)
        if len(parts) > 3:
            gone = set(r.sample(range(len(parts)), r.randint(1, len(parts) // 3)))
            shorter = " ".join(p for i, p in enumerate(parts) if i not in gone)
            if all(a is None or a in shorter for _, a in qas):
                text = shorter
    if augment and r.random() < 0.04 and qas:
        q, a = r.choice(qas)
        if a:
            parts = SENT.split(text)
            kept = [p for p in parts if a not in p]
            if 0 < len(kept) < len(parts) and len(kept) * 2 > len(parts):
                text = " ".join(kept)
                qas = [(q2, a2 if a2 is None or a2 in text else None) for q2, a2 in qas if a2 is None or a2 in text or q2 == q]
    out = [("natural", q, a, evidence.choose(text, q, a)) if a else ("absent", q, T.ABSENT, "")
           for q, a in r.sample(qas, min(len(qas), most))]
    if augment and r.random() < 0.3:
        width, pad = r.choice((60, 66, 70, 72, 76, 79, 90)), r.choice(("", "", "", "  ", "   ", "    "))
        text = "\n".join(textwrap.wrap(text, width, initial_indent=pad + r.choice(("", "  ")), subsequent_indent=pad, break_long_words=False))
    return name, text, out


def spoken(r, name):
    """A document's name as people say it."""
    m = re.match(r"pep-0*(\d+)(?:\.\w+)?$", name)
    if m and r.random() < 0.8:
        return r.choice(("PEP {}", "PEP {}", "pep {}", "PEP-{}")).format(m.group(1))
    low = r.random()
    if low < 0.15:
        name = re.sub(r"\.(?:md|txt|rst|html|pdf)$", "", name)
    return name.lower() if low > 0.9 else name


def ask(r, q, name, must_name, lex=None):
    if must_name or r.random() < 0.12:
        low = q if re.match(r"[A-Z][a-z]* ?[A-Z]|I ", q) else q[:1].lower() + q[1:]
        q = r.choice(T.ACCORDING).format(n=spoken(r, name), q=low, Q=q)
    if r.random() < 0.08:
        q = " ".join(w for w in q.split() if w.lower() not in ("the", "a", "an", "did", "does", "do", "is", "was"))
    elif r.random() < 0.06:
        q = keywords(r, q)
    return vary(r, other_words(r, q, lex))


FUNCTION = set("""the a an did does do is was are were be been of in on at to for from by with and or that this these those it its his her their there has have had can could would should will
shall may might must as into than then so if not""".split())


def keywords(r, q):
    """A question as it is typed into a search box: what carries meaning, the word that asks kept or not."""
    words = [w for w in q.rstrip("?.").split() if w.lower() not in FUNCTION]
    if len(words) > 3 and r.random() < 0.3 and WH.fullmatch(words[0].lower()) and words[0].lower() in ("what", "which"):
        words = words[1:]
    return " ".join(words) if len(words) > 2 else q


def other_words(r, q, lex=None):
    """A question with some words exchanged or dropped."""
    if lex and r.random() < 0.5:
        q = lex.reword(r, q, r.choice((0.2, 0.4, 0.7)))
    if r.random() < 0.3:
        q = reword(r, q, 0.35)
    if r.random() < 0.25:
        q = thin(r, q, 0.12)
    return q
