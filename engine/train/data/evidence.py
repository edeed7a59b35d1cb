"""The sentence that holds an answer, copied word for word (white space normalised): what a sample may quote before it answers."""
import re

MOST = 165  # characters, about 40 tokens
STOP = re.compile(r"[.!?][\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
ABBREVIATED = re.compile(r"(?:^|[\s(\"'“])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|No|vs|Jr|Sr|Col|Gen|Capt|Lt|Sgt|Prof|Rev|Hon|Vol|Fig|Inc|Ltd|Co|Mt|cf|ca|pp?|e\.g|i\.e|[A-Z]\.[A-Z])$")
CLAUSE = re.compile(r"(?<=[,;:—–(]) ?|(?<= )(?=(?:and|but|or|which|who|that|when|where|while|because|if|as|so|with) )")
WORD = re.compile(r"[A-Za-z0-9]+")
COMMON = set("""the and was were are did does has have had what which who whom whose when where why how for from with that this these those into
about there their they them his her him she its not but you your our one can could would will shall should may might must been being than then too
many much long far old name give tell text document said say says mean means called""".split())


def clean(s):
    return " ".join(s.split())


def sentences(text):
    """[(start, end)] of the sentences of a text whose white space is normalised."""
    out, at = [], 0
    for m in STOP.finditer(text):
        end = m.end() - (len(m.group()) - len(m.group().rstrip()))
        if not (m.group()[0] == "." and ABBREVIATED.search(text, at, m.start())):
            out.append((at, end))
            at = m.end()
    if at < len(text):
        out.append((at, len(text)))
    return out


def stems(text):
    return {w[:5] for w in WORD.findall(text.lower()) if len(w) > 2 and w not in COMMON}


def places(text, answer):
    """Where the answer stands as whole words. (No pattern is made of it: compiling one a question cost a third of a sample.)"""
    inside = lambda i: 0 <= i < len(text) and (text[i].isalnum() or text[i] == "_")
    head, tail, out, at = answer[:1].isalnum(), answer[-1:].isalnum(), [], text.find(answer)
    while at >= 0:
        end = at + len(answer)
        whole = not (head and inside(at - 1)) and not (tail and inside(end))
        if whole:
            out.append((at, end))
        at = text.find(answer, end if whole else at + 1)
    return out


def window(s, a, b, most=MOST):
    """s, or where it is long a piece of it that holds s[a:b] and begins at a clause or, failing that, at a word."""
    if len(s) <= most:
        return s
    if b - a > most:
        return None
    low = max(0, b - most)
    starts = [0] + [m.end() for m in CLAUSE.finditer(s, 0, a) if m.end() <= a]
    lo = next((x for x in starts if x >= low and b - x <= most * 3 // 4), None)
    if lo is None:
        lo = next((x for x in starts if x >= low), None)
    if lo is None:
        lo = s.find(" ", low, a) + 1 or a
    if len(s) - lo <= most:
        return s[lo:]
    ends = [m.start() for m in CLAUSE.finditer(s, b, lo + most) if m.start() >= b]
    hi = ends[-1] if ends and ends[-1] - lo > most // 2 else s.rfind(" ", b, lo + most)
    return s[lo:hi if hi >= b else b].strip()


def window_of(sentence, answer, most=MOST):
    """The window of one sentence that holds the answer; None where there is none or the answer is nearly all of it."""
    sentence, answer = clean(sentence), clean(answer)
    at = sentence.find(answer)
    return window(sentence, at, at + len(answer), most) if at >= 0 and len(answer) * 3 <= len(sentence) * 2 else None


def choose(text, question, answer, most=MOST):
    """The sentence of `text` that answers: of those that hold the answer, the one with most of the question's rarer words. None without one."""
    text, answer = clean(text), clean(answer)
    if not answer or len(answer) > most:
        return None
    found = places(text, answer)
    if not found:
        return None
    cuts = sentences(text)
    held = []
    for a, b in found:
        i = next(i for i, c in enumerate(cuts) if a < c[1] or i == len(cuts) - 1)
        j = next(j for j in range(i, len(cuts)) if b <= cuts[j][1] or j == len(cuts) - 1)
        held.append((cuts[i][0], cuts[j][1], a, b))
    best = held[0]
    if len(held) > 1:
        asked = stems(question) - stems(answer)
        bags = [stems(text[a:b]) & asked for a, b in cuts]
        weight = {w: 1.0 / sum(w in g for g in bags) for g in bags for w in g}
        best = max(held, key=lambda h: round(sum(weight.get(w, 0.0) for w in stems(text[h[0]:h[1]]) & asked), 9))
    lo, hi, a, b = best
    return window(text[lo:hi], a - lo, b - lo, most)
