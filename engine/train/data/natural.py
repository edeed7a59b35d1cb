"""Passages with questions that people would ask, and what is done to them so that they cannot be learnt by heart.

With some chance an answer (a number, a year, a date, a name) or a name that a
question turns on is replaced throughout passage, questions and answers by
another of its kind, so that only reading gives the answer; sentences are
dropped; the sentence with the answer is taken out and the question becomes
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


def rename(r, stock, text, qas):
    """Gives up to two names that stand both in the passage and in a question another spelling everywhere."""
    asked = " ".join(q.split(" ", 1)[-1] for q, _ in qas)
    names = [w for w in dict.fromkeys(re.findall(r"\b[A-Z][a-z]{3,}\b", asked)) if re.search(r"[a-z,] " + w + r"\b", text)]
    for w in r.sample(names, min(len(names), 2)):
        new = stock.town(r) if r.random() < 0.4 else r.choice(stock.last)
        text = swap(text, w, new)
        qas = [(swap(q, w, new), swap(a, w, new) if a else a) for q, a in qas]
    return text, [(q, a) for q, a in qas if a is None or a in text]


def prepare(r, stock, passage, augment=True, most=99):
    """(name, text, [(kind, question, answer, evidence)]) of one passage, with at most `most` of its questions."""
    name, text = passage["name"], passage["text"]
    qas = [(q["question"], q["answer"]) for q in passage["qas"]]
    if augment and r.random() < 0.45:
        for q, a in r.sample(qas, len(qas))[:3]:
            new = substitute(r, stock, a) if a else None
            if new and new != a and (len(a) > 3 or NUM.match(a)):
                text = swap(text, a, new)
                qas = [(swap(q2, a, new), swap(a2, a, new) if a2 else a2) for q2, a2 in qas]
        qas = [(q, a) for q, a in qas if a is None or a in text]
    if augment and r.random() < 0.35:
        text, qas = rename(r, stock, text, qas)
    if augment and r.random() < 0.25:
        parts = SENT.split(text)
        if len(parts) > 3:
            gone = set(r.sample(range(len(parts)), r.randint(1, len(parts) // 3)))
            shorter = " ".join(p for i, p in enumerate(parts) if i not in gone)
            if all(a is None or a in shorter for _, a in qas):
                text = shorter
    if augment and r.random() < 0.12 and qas:
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


def ask(r, q, name, must_name, lex=None):
    if must_name or r.random() < 0.1:
        low = q if re.match(r"[A-Z][a-z]* ?[A-Z]|I ", q) else q[:1].lower() + q[1:]
        q = r.choice(T.ACCORDING).format(n=name, q=low, Q=q)
    if r.random() < 0.08:
        q = " ".join(w for w in q.split() if w.lower() not in ("the", "a", "an", "did", "does", "do", "is", "was"))
    return vary(r, other_words(r, q, lex))


def other_words(r, q, lex=None):
    """A question with some words exchanged or dropped."""
    if lex and r.random() < 0.5:
        q = lex.reword(r, q, r.choice((0.2, 0.4, 0.7)))
    if r.random() < 0.3:
        q = reword(r, q, 0.35)
    if r.random() < 0.25:
        q = thin(r, q, 0.12)
    return q
