"""Questions made by rule from the sentences of plain prose. Each maker takes (rng, sentence) and gives (question, answer) or None."""
import re

from . import formation

STARTERS = set("""The It He She They This That These Those But And In On At Of For If When While As After Before Then There Here What Who Why How
Where Which Now So Not No Yes Or Nor Yet With Without From To By An A I We You His Her Its Their My Our Your One Some All Each Every Both Either Neither
Such Many Most More Other Another Perhaps Thus Hence However Although Though Because Since Until Unless Let Also Even Only Just Still Never Always Note
See Do Does Did Is Are Was Were Be Have Has Had Can Could Will Would Shall Should May Might Must""".split())
NAME = re.compile(r"(?<![.!?]\s)(?<=\s)([A-Z][a-z]{2,}(?: [A-Z][a-z]{2,}){0,2})\b")
NUMBER = re.compile(r"\b(\d{1,4}(?:[.,]\d+)*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|hundred)\b")
COUNTED = re.compile(r"\b(\d{1,3}(?:,\d{3})*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty) ([a-z]{3,}s)\b")
DATED = re.compile(r"\b(in|on|since|until|by|of) ((?:\d{1,2}(?:st|nd|rd|th)? )?(?:January|February|March|April|May|June|July|August|September|October|November|December)(?: \d{1,2}(?:st|nd|rd|th)?)?,?(?: \d{4})?|1[4-9]\d\d|20[0-3]\d)\b")
PLACED = re.compile(r"\b(in|at|from|near|to) ([A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})?)\b")
SUBJECT = re.compile(r"^([A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})?) ((?:was|is|had|has|said|went|took|gave|came|made|saw|told|knew|thought|held|left|stood|sat|ran|fell|found|felt|put|brought|kept|got|wrote|[a-z]{2,}ed) .{10,})$")
REASON = re.compile(r"\s(?:because|so that|in order to|since|unless|if|until)\s")
WORD = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")


def clean(s):
    return " ".join(s.split())


def window(r, s, a, b, most=14):
    """Up to `most` words either side of s[a:b], as (before, after)."""
    left, right = s[:a].split(), s[b:].split()
    n, m = r.randint(3, most), r.randint(2, most)
    return " ".join(left[-n:]), " ".join(right[:m])


def keywords(r, s, n, avoid=""):
    bad = set(avoid.lower().split())
    ws = sorted(dict.fromkeys(w for w in WORD.findall(s) if w.lower() not in bad and w not in STARTERS), key=len, reverse=True)[:12]
    if len(ws) < n:
        return None
    ws = r.sample(ws, n)
    return ws


def _span(r, s):
    found = [m.span(1) for m in NAME.finditer(s) if m.group(1).split()[0] not in STARTERS] + [m.span(1) for m in NUMBER.finditer(s)]
    if not found or r.random() < 0.25:
        ws = [m.span() for m in WORD.finditer(s) if m.end() - m.start() > 5]
        if not ws:
            return None
        a, b = r.choice(ws)
        more = re.match(r" [a-z]{3,}( [a-z]{3,})?", s[b:])
        return (a, b + more.end()) if more and r.random() < 0.4 else (a, b)
    return r.choice(found)


def cloze(r, s):
    span = _span(r, s)
    if not span:
        return None
    before, after = window(r, s, *span)
    gap = r.choice(("____", "___", "[blank]", "..."))
    q = r.choice(('Fill in the blank: "{}"', "Complete the sentence: {}", "What is missing here? {}", "Which words belong in the gap: {}",
                  "{} What is {g}?", "{}")).format(f"{before} {gap} {after}".strip(), g=gap)
    return q, s[span[0]:span[1]]


def continuation(r, s):
    ws = s.split()
    if len(ws) < 12:
        return None
    n, m = r.randint(5, 9), r.randint(4, 14)
    a = r.randint(0, len(ws) - n - 3)
    return r.choice(('How does the text go on after "{}"?', 'Continue: "{}"', "What comes after the words {}?", '"{} ..." How does it continue?')).format(
        " ".join(ws[a:a + n])), " ".join(ws[a + n:a + n + m])


def quote(r, s):
    if not 30 < len(s) < 260:
        return None
    k = keywords(r, s, r.choice((2, 2, 3)))
    if not k:
        return None
    a = " and ".join(k) if len(k) == 2 else f"{k[0]}, {k[1]} and {k[2]}"
    return r.choice(("Quote the sentence about {}.", "Which sentence mentions {}?", "Give the sentence with the words {}.", "What exactly does it say about {}?",
                     "Quote what is said about {}.")).format(a), s


def who(r, s):
    m = SUBJECT.match(s)
    if not m or m.group(1).split()[0] in STARTERS:
        return None
    rest = " ".join(m.group(2).rstrip(".!?;,\"'").split()[:r.randint(6, 16)])
    return r.choice(("Who {}?", "who {}", "Who was it that {}?")).format(rest), m.group(1)


def when(r, s):
    ms = list(DATED.finditer(s))
    if not ms:
        return None
    m = r.choice(ms)
    before, after = window(r, s, m.start(), m.end(), 10)
    k = keywords(r, before + " " + after, 3)
    forms = [f"When {before} {after}?", f"In what year or on what date: {before} ... {after}?", f'When does the text say "{before}"?']
    if k:
        forms += [f"When was it, with {k[0]}, {k[1]} and {k[2]}?", f"What is the date given for {k[0]} and {k[1]}?", f"When: {' '.join(k)}?"]
    return clean(r.choice(forms)), m.group(2)


def how_many(r, s):
    ms = list(COUNTED.finditer(s))
    if not ms:
        return None
    m = r.choice(ms)
    before, after = window(r, s, m.start(), m.end(), 9)
    k = keywords(r, before + " " + after, 2, m.group(2))
    forms = [f"How many {m.group(2)} {after}?", f'How many {m.group(2)} are meant in "{before} ... {after}"?', f"{before} how many {m.group(2)}?"]
    if k:
        forms += [f"How many {m.group(2)} are mentioned with {k[0]} and {k[1]}?", f"How many {m.group(2)} ({k[0]}, {k[1]})?"]
    return clean(r.choice(forms)), m.group(1)


def where(r, s):
    ms = [m for m in PLACED.finditer(s) if m.group(2).split()[0] not in STARTERS]
    if not ms:
        return None
    m = r.choice(ms)
    before, after = window(r, s, m.start(), m.end(), 9)
    k = keywords(r, before + " " + after, 3)
    forms = [f"Where {before}?", f"{before} {m.group(1)} where?", f"{m.group(1).capitalize()} which place or whom: {before} ... {after}?"]
    if k:
        forms.append(f"Where: {' '.join(k)}?")
    return clean(r.choice(forms)), m.group(2)


def hinted(r, s):
    """Loose words of the sentence, out of order, and the kind of thing wanted."""
    span = _span(r, s)
    if not span:
        return None
    a = s[span[0]:span[1]]
    k = keywords(r, s[:span[0]] + " " + s[span[1]:], r.choice((3, 4)), a)
    if not k:
        return None
    kind = "Which number" if a[0].isdigit() else "Which name" if a[0].isupper() else "Which word"
    return r.choice((f"{kind} goes with {', '.join(k)}?", f"{kind} is in the sentence about {', '.join(k)}?", f"{kind}: {' '.join(k)}?")), a


MAKERS = [(cloze, 4), (continuation, 1), (quote, 2), (who, 6), (when, 6), (how_many, 6), (where, 4), (hinted, 2)]
FORMED = 0.92  # share of the questions that are first tried by syntax


def question(r, s, lex=None):
    """A question on one sentence: by syntax where it can be, else tried over the makers in a random weighted order."""
    s = clean(s)
    if not 35 < len(s) < 700:
        return None
    if lex and r.random() < FORMED:
        out = formation.question(r, lex, s)
        if out:
            return out
        if r.random() < 0.93:
            return None
    for maker in sorted(MAKERS, key=lambda m: r.random() ** (1 / m[1]), reverse=True)[:5]:
        out = maker[0](r, s)
        if out and 0 < len(out[1]) < 300:
            return out
    return None


def which_document(r, s):
    s = clean(s)
    ws = s.split()
    if len(ws) < 6:
        return None
    a = r.randint(0, max(0, len(ws) - 12))
    bit = " ".join(ws[a:a + r.randint(5, 12)])
    k = keywords(r, s, 3)
    forms = ['Which document says "{}"?', "Which file contains the words {}?", "In which document does it say that {}?"]
    if k and r.random() < 0.5:
        return r.choice(("Which document mentions {}, {} and {}?", "Which file is about {}, {}, {}?", "Where do I find {} {} {}?")).format(*k)
    return r.choice(forms).format(bit)
