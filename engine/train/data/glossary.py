"""Glossaries from WordNet: documents of words and meanings, asked from either side."""
from . import evidence
from .facts import vary
from .synonyms import thin

NAMES = ("Glossary", "glossary.md", "Terms and definitions", "DEFINITIONS.txt", "vocabulary.html", "word-list.txt", "Dictionary", "terms.pdf")
KINDS = {"n": ("noun", "n."), "v": ("verb", "v."), "a": ("adjective", "adj.")}
LINES = ("{w}: {g}", "{w} - {g}", "{w} ({k}): {g}", "- **{w}**: {g}", "{w}, {s} {g}", "* {w} -- {g}", "{w}\n    {g}", "| {w} | {g} |", "\"{w}\" means {g}.", "{W}: {g}.")
MEANING = ("What does {w} mean?", "What is the meaning of {w}?", "Define {w}.", "what does the word {w} stand for", "How is {w} defined?", "What is meant by {w}?", "meaning of {w}",
           "What is the definition of {w}?", "What does one understand by {w}?")
WORD = ("What is a word for {g}?", "Which word means {g}?", "What do you call {g}?", "Which term is defined as {g}?", "what is the name for {g}", "Which entry means {g}?")


def text(r, lex, n):
    """(text, [(kind, question, answer, evidence)]) of n entries."""
    rows, seen = [], set()
    while len(rows) < n:
        w, part, gloss = r.choice(lex.glossary)
        if w.lower() not in seen and len(gloss) < 160 and w.lower() not in gloss.lower():
            seen.add(w.lower())
            rows.append((w, part, gloss))
    if r.random() < 0.6:
        rows.sort(key=lambda x: x[0].lower())
    form = r.choice(LINES)
    lines = [form.format(w=w, W=w[:1].upper() + w[1:], g=g, k=KINDS[p][0], s=KINDS[p][1]) for w, p, g in rows]
    qs = []
    for i in r.sample(range(len(rows)), min(len(rows), 2 + n // 3)):
        w, part, gloss = rows[i]
        short = gloss.split("; ")[0]
        line = evidence.clean(lines[i])
        at = line.find(gloss)
        if r.random() < 0.5 and len(short) < 150:
            qs.append(("needle", vary(r, r.choice(MEANING).format(w=w)), short, None if len(w) + len(short) > 150 else evidence.window(line, at, at + len(short))))
        else:
            hint = thin(r, lex.reword(r, short, r.choice((0.0, 0.5, 0.8))), r.choice((0.0, 0.1, 0.2)))
            if w.lower() not in hint.lower():
                word = w if form[:3] != "{W}" else w[:1].upper() + w[1:]
                at = line.find(word)
                qs.append(("needle", vary(r, r.choice(WORD).format(g=hint)), word, evidence.window(line, at, at + len(word))))
    return "\n".join(lines), qs
