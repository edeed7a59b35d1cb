"""Questions made from declarative sentences by syntax: subject, object, adverbial, reason, purpose, condition, definition, number, speech.

`question(r, lex, sentence)` gives (question, answer) or None; the answer stands word for word in the sentence.
The tags are lexicon.py's. A sentence is cut into lead, subject, verb group and the phrases after it; one
phrase is asked for, and the question is made of some of the others, in words of the same meaning.
"""
import re

from .lexicon import CLOSED

NPC = r"(?:D{0,2}(?:R?J|[NPGE#])*[NSP#])"
NP = rf"(?:{NPC}(?:o{NPC}){{0,2}})"
PP = rf"(?:I(?:{NP}|O)|K#|T{NP})"
LEAD = re.compile(rf"(?:[CR],?)?(?:{PP}{{1,2}},?|R,)?")
SUBJECT = re.compile(rf"({NP}|O)")
ASIDE = re.compile(r",[^,;.?!:\"]{1,14},")
VERB = re.compile(r"R*(?:(?P<be>A)R{0,2}(?P<pass>b?E|G)?|(?P<have>H)R{0,2}(?P<perf>b?[EG]|b)|(?P<do>Y)R{0,2}(?P<done>B)|(?P<modal>M)R{0,2}(?P<inf>b?[BE]|b)|(?P<plain>[VZ])|(?P<base>B))")
PHRASE = re.compile(rf"(?P<pp>R?{PP})|(?P<np>{NP}|O)|(?P<to>T(?=b?B))|(?P<k>K)|(?P<adv>R)|(?P<adj>J(?:CJ)?)|(?P<c>,?C(?=[VZ]))")
IDLE = {"it", "there", "this", "that", "these", "those", "he", "she", "they", "we", "you", "i", "him", "her", "them", "us", "me", "one", "thing", "things", "way", "rest", "other", "others", "same",
        "something", "nothing", "anything", "everything", "lot", "kind", "sort", "fact", "matter", "myself", "himself", "herself", "itself", "themselves", "everyone", "someone", "such", "all", "case", "cases"}
CONTENT = re.compile(r"[A-Za-z]{4,}")
FINITE = re.compile("[VZABHMY]")
MONTHS = set("january february march april may june july august september october november december monday tuesday wednesday thursday friday saturday sunday".split())
SAID = r"(?:said|cried|asked|replied|answered|exclaimed|whispered|remarked|shouted|muttered|returned|observed|murmured|growled|sighed|called|continued|added|declared|inquired)"
SPEECH = re.compile(rf"[\"“]([^\"“”]{{15,160}})[\"”],? (?:{SAID} ((?:[A-Z][a-z]+\.? ?){{1,3}}|the [a-z]+(?: [a-z]+)?)|((?:[A-Z][a-z]+\.? ?){{1,3}}|[Tt]he [a-z]+) {SAID})(?=[ ,.;])")
CONCRETE = {5, 6, 13, 14, 17, 18, 20, 27}  # animals, things made, food, groups, objects, people, plants, substances
VAGUE = {"it", "this", "that", "these", "those", "one"}
COMMON = set("does have doing done must shall were case happens text says kind sort type words narrator that this with from have were been which when what there their they would could should about into than then them will your".split())


class Clause:
    """One sentence cut up."""
    __slots__ = ("s", "sp", "t", "lead", "subj", "be", "aux", "verb", "main", "phrases", "plain", "passive", "after")

    def text(self, span):
        return self.s[self.sp[span[0]][0]:self.sp[span[1] - 1][1]]


def parse(lex, c):
    """Fills in a clause whose sentence is tagged; False where it is not of the kind that is understood."""
    s, t = c.s, c.t
    if len(t) < 5 or "?" in t:
        return False
    at = 0
    m = LEAD.match(t)
    c.lead = None
    if m and m.end():
        lead = t[:m.end()].rstrip(",")
        skip = 1 if lead[:1] in "CR" else 0
        skip += t[skip:skip + 1] == ","
        c.lead = (skip, len(lead)) if len(lead) > skip + 1 else None
        at = m.end()
        if c.lead and t[at - 1] != "," and not SUBJECT.match(t, at):
            at, c.lead = 0, None
    m = SUBJECT.match(t, at)
    if not m:
        return False
    c.subj = m.span()
    at = m.end()
    a = ASIDE.match(t, at)
    if a:
        at = a.end()
    v = VERB.match(t, at)
    if not v:
        return False
    at = v.end()
    word = lambda i: s[c.sp[i][0]:c.sp[i][1]]
    kind = v.lastgroup
    g = v.groupdict()
    c.be = bool(g["be"]) and not g["pass"]
    c.passive = bool(g["pass"])
    c.plain = bool(g["plain"] or g["base"])
    if c.plain:
        i = v.start("plain") if g["plain"] else v.start("base")
        w = word(i)
        if g["plain"]:
            base = lex.base.get((w.lower(), g["plain"]))
            if not base:
                return False
            c.aux = "did" if g["plain"] == "V" else "does"
        else:
            if c.t[m.end() - 1] not in "SO" and "C" not in c.t[m.start():m.end()]:
                return False
            base, c.aux = w, "do"
        c.verb, c.main = base, w
    else:
        first = next(v.start(k) for k in ("be", "have", "do", "modal") if g[k])
        rest = [word(i) for i in range(first + 1, at)]
        c.aux = word(first).lower()
        c.verb = " ".join(rest)
        c.main = (c.aux + " " + c.verb).strip()
    c.after = at
    # phrases after the verb, up to the end of the clause
    c.phrases = []
    n = len(t)
    while at < n:
        m = PHRASE.match(t, at)
        if not m:
            break
        k = m.lastgroup
        if k in ("to", "k"):
            end = next((i for i in range(at + 1, n) if t[i] in ";.:?!\"(" or (k == "k" and t[i] == ",") or (t[i] == "K" and i > at + 2)), n)
            if end - at < 3:
                break
            c.phrases.append((k, (at, end)))
            at = end
            if k == "to":
                continue
            break
        if k == "c":
            break
        c.phrases.append((k, m.span()))
        at = m.end()
        if at < n and t[at] == "," and at + 1 < n and t[at + 1] == "K":
            at += 1
    return True


def low(text, tag):
    return text if tag in "P#" or (text[:2].isalpha() and text[:2].isupper()) or text.startswith("I ") or text == "I" else text[:1].lower() + text[1:]


def head(c, span):
    """The head word of a noun phrase: its last noun before "of"."""
    i = c.t.find("o", span[0], span[1])
    j = (i if i > 0 else span[1]) - 1
    return c.s[c.sp[j][0]:c.sp[j][1]], c.t[j]


def kind_of(lex, word):
    """The word above a concrete noun: "vessel" for "ship"."""
    base = lex.base.get((word.lower(), "S"), word.lower())
    up = lex.above.get(base, "")
    return up if up and " " not in up and lex.field(base) in CONCRETE and up not in ("object", "thing", "entity", "whole", "artifact", "matter", "group") else None


def wh(lex, c, span):
    word, tag = head(c, span)
    if tag == "O":
        return "Who"
    f = lex.field(word)
    if tag == "#" or (c.t[span[0]] == "#" and tag in "NS"):
        return "number"
    if f == 28 or word.lower() in MONTHS:
        return "When"
    if f == 18:
        return "Who"
    if f == 15:
        return "Where"
    if tag == "P" and f == 0 and word.isalpha() and word[1:].islower():
        return "Who"
    return "What"


def fit(text):
    """An answer worth asking for."""
    words = text.split()
    last = words[-1].lower().strip(".,") if words else ""
    return 0 < len(words) <= 24 and CLOSED.get(last, "N") in "N#RJ" and words[0] not in ("This", "These", "Those", "Such", "That", "this", "these", "those", "such") and "following" not in words[:2] and last not in IDLE and not (len(words) == 1 and len(text) < 2 and not text.isdigit())


def rest_of(r, c, without, most=4):
    """The phrases after the verb but one, some of the later ones dropped."""
    out = []
    for i, (k, span) in enumerate(c.phrases):
        if i == without:
            continue
        if k == "adv" and r.random() < 0.6:
            continue
        if (i > 0 or k == "pp") and k in ("pp", "k", "to") and r.random() < (0.3 if k == "pp" else 0.6):
            continue
        words = c.text(span).split()
        out.append(" ".join(words[:14]))
        if len(out) == most:
            break
    return " ".join(out)


def subject(r, c):
    x = low(c.text(c.subj), c.t[c.subj[0]])
    return x


def assemble(r, c, word, rest, prep="", subj=None, front=True):
    """'Where did the king put the crown'; the lead comes first, last or not at all."""
    subj = subj or subject(r, c)
    q = f"{word} {c.aux} {subj} {c.verb} {rest} {prep}"
    if c.lead and r.random() < 0.45:
        lead = low(c.text(c.lead), c.t[c.lead[0]])
        if r.random() < 0.5:
            q = f"{q} {lead}"
        elif front:
            q = f"{lead}, {q[:1].lower()}{q[1:]}"
    return q


def finish(q):
    q = re.sub(r"\s+", " ", q).strip(" ,;:-")
    return q[:1].upper() + q[1:] + "?"


def of_clause(r, lex, c):
    """[(weight, question, answer)] of a clause."""
    out = []
    add = lambda w, q, span: out.append((w, q, c.text(span)))
    subj_word = c.text(c.subj).lower()
    pronoun = c.t[c.subj[0]:c.subj[1]] == "O"
    # the subject
    if not pronoun:
        w = wh(lex, c, c.subj)
        hw, ht = head(c, c.subj)
        rest = rest_of(r, c, -1)
        if rest or c.passive:
            verb = c.main if not c.plain or c.aux != "do" else lex_third(c.verb)
            if w in ("Where", "number"):
                w = "What"
            if w == "When":
                w = "What"
            up = kind_of(lex, hw) if ht in "NS" else None
            if w == "What" and up and r.random() < 0.25:
                w = f"Which {up}"
            elif r.random() < 0.08:
                w = "Who or what"
            q = f"{w} {verb} {rest}"
            if c.lead and r.random() < 0.4:
                q += " " + low(c.text(c.lead), c.t[c.lead[0]])
            add(4 if w == "Who" else 3, q, c.subj)
    if subj_word in ("there", "it", "this", "that", "one", "these", "those") and not c.phrases:
        return out
    if subj_word == "there":
        k = next(((i, sp) for i, (kind, sp) in enumerate(c.phrases) if kind == "np"), None)
        if k and c.be:
            where = " ".join(c.text(sp) for kind, sp in c.phrases[1:3] if kind == "pp")
            if where:
                add(3, f"What {c.aux} there {where}", k[1])
                if c.t[k[1][0]] == "#":
                    out.append((4, f"How many {' '.join(c.text(k[1]).split()[1:])} {c.aux} there {where}", c.text((k[1][0], k[1][0] + 1))))
        return out
    vague = subj_word in VAGUE
    if subj_word.split()[0] in ("no", "nothing", "nobody", "none", "neither"):
        return []
    out += reasons(r, c)
    for i, (k, span) in enumerate(c.phrases):
        text = c.text(span)
        if k == "np" and i == 0 and c.t[span[0]] != "O":
            if c.be:
                if not vague and not pronoun:
                    person = wh(lex, c, c.subj) == "Who" or wh(lex, c, span) == "Who"
                    end = span[1]
                    for kk, sp in c.phrases[1:3]:  # with what hangs on it
                        if kk == "pp" and r.random() < 0.5:
                            end = sp[1]
                        else:
                            break
                    add(5, f"{'Who' if person else 'What'} {c.aux} {subject(r, c)}", (span[0], end))
                if not pronoun:
                    person = wh(lex, c, c.subj) == "Who"
                    add(3, f"{'Who' if person else 'What'} {c.aux} {text} {rest_of(r, c, 0, 2)}", c.subj)
                continue
            w = wh(lex, c, span)
            hw, ht = head(c, span)
            if w == "number":
                if c.t[span[0]] == "#" and span[1] - span[0] > 1 and c.t[span[1] - 1] in "SN":
                    out.append((5, assemble(r, c, f"How many {c.text((span[0] + 1, span[1]))}", rest_of(r, c, 0)), c.text((span[0], span[0] + 1))))
                continue
            word = {"Who": "Whom" if r.random() < 0.4 else "Who", "When": "When", "Where": "What" if r.random() < 0.6 else "Which place"}.get(w, "What")
            up = kind_of(lex, hw) if ht in "NS" else None
            if word == "What" and up and r.random() < 0.3:
                word = f"{r.choice(('What', 'Which'))} {up}"
            elif word == "What" and c.t[span[0]] == "J" and ht in "NS" and r.random() < 0.4:
                word = f"What {r.choice(('kind', 'sort', 'type'))} of {hw}"
            add(4, assemble(r, c, word, rest_of(r, c, 0)), span)
            continue
        if k == "np" and c.t[span[0]] == "#" and c.t[span[1] - 1] == "S":
            out.append((4, assemble(r, c, f"How many {c.text((span[0] + 1, span[1]))}", rest_of(r, c, i)), c.text((span[0], span[0] + 1))))
            continue
        if k == "pp" and c.t[span[1] - 1] != "O":
            a = span[0] + (c.t[span[0]] == "R")
            prep = c.text((a, a + 1)).lower()
            inner = (a + 1, span[1])
            w = wh(lex, c, inner)
            rest = rest_of(r, c, i)
            whole = span if r.random() < 0.4 else inner
            short = c.t[inner[0]:inner[1]]
            if w == "When" or (short == "#" and prep in ("in", "since", "until", "by", "after", "before") and re.fullmatch(r"1\d\d\d|20\d\d", c.text(inner))):
                if prep in ("for", "during", "within") and c.t[inner[0]] in "#D":
                    add(4, assemble(r, c, "How long" if prep == "for" else "When", rest), whole)
                elif prep in ("since", "until"):
                    add(4, assemble(r, c, f"{prep.capitalize()} when", rest), inner)
                else:
                    add(5, assemble(r, c, "When" if r.random() < 0.8 else f"{prep.capitalize()} what time", rest), whole)
            elif w == "Where" and prep in ("in", "at", "on", "near", "to", "into", "from", "through", "behind", "under", "across", "inside", "outside", "around", "over", "along", "between"):
                if prep == "from":
                    add(5, assemble(r, c, "Where" if r.random() < 0.7 else "From where", rest, "from" if r.random() < 0.5 else ""), inner)
                else:
                    add(5, assemble(r, c, "Where" if r.random() < 0.8 else f"{prep.capitalize()} what place", rest), whole)
            elif w == "Who" and prep in ("with", "to", "from", "for", "by", "against", "about"):
                add(4, assemble(r, c, f"{prep.capitalize()} whom", rest) if r.random() < 0.5 else assemble(r, c, "Who", rest, prep, front=False), inner)
            elif w == "number":
                if c.t[inner[0]] == "#" and inner[1] - inner[0] > 1 and c.t[inner[1] - 1] == "S":
                    out.append((3, assemble(r, c, f"{prep.capitalize()} how many {c.text((inner[0] + 1, inner[1]))}", rest), c.text((inner[0], inner[0] + 1))))
            elif prep in ("in", "on", "at", "under", "behind", "near", "inside", "above", "below", "across", "through", "into", "over", "between", "around", "along", "beside", "against") and lex.field(head(c, inner)[0]) in (6, 15, 17) and \
                    (prep not in ("in", "at", "on") or c.text(inner)[:4] in ("the ", "The ")):
                add(4, assemble(r, c, "Where", rest), whole)
            elif prep in ("by", "without", "through", "via") and c.passive is False:
                add(2, assemble(r, c, "How", rest), span)
            elif prep == "by" and c.passive:
                add(4, f"{w if w == 'Who' else 'What'} {past_active(lex, c)} {subject(r, c)}" if w == "Who" and past_active(lex, c) else f"By what {c.aux} {subject(r, c)} {c.verb}", inner)
            else:
                add(1, assemble(r, c, f"{prep.capitalize()} what", rest) if r.random() < 0.5 else assemble(r, c, "What", rest, prep, front=False), inner)
        elif k == "k":
            w = c.s[c.sp[span[0]][0]:c.sp[span[0]][1]].lower()
            rest = rest_of(r, c, i)
            inner = (span[0] + 1, span[1])
            if not FINITE.search(c.t, *inner):
                continue
            if w == "because" or (w == "since" and c.t[span[0] - 1] == ","):
                add(8, assemble(r, c, "Why", rest), span if r.random() < 0.4 else inner)
            elif w == "so" and c.text(inner).startswith("that "):
                add(8, assemble(r, c, r.choice(("Why", "For what purpose")), rest), span if r.random() < 0.5 else inner)
            elif w in ("when", "while", "after", "before", "until", "till", "whenever"):
                add(4, assemble(r, c, "When" if w not in ("until", "till") else "Until when", rest), span)
            elif w in ("if", "unless"):
                add(6, assemble(r, c, r.choice(("When", "Under what condition", "In which case", "On what condition")), rest), span if w == "unless" or r.random() < 0.5 else inner)
        elif k == "to" and not c.be and not rest_of(r, c, i).endswith("able"):
            order = c.phrases[i - 1] if i else None
            rest = rest_of(r, c, i)
            if order and c.text(order[1]).lower() == "in order":
                add(8, assemble(r, c, r.choice(("Why", "For what purpose")), re.sub(r"\bin order\b", "", rest)), span)
            elif c.passive and c.verb.split()[-1] in ("used", "needed", "required", "designed", "intended", "made", "built"):
                add(7, f"What {c.aux} {subject(r, c)} {c.verb} {r.choice(('for', 'to do'))}", span)
            elif c.verb.split()[-1:] and c.verb.split()[-1] in ("want", "try", "decide", "hope", "need", "wish", "promise", "refuse", "learn", "plan", "agree", "begin", "intend", "attempt", "wanted", "tried",
                                                                 "decided", "allowed", "required", "asked", "told", "forced", "permitted", "expected", "able", "have"):
                add(5, f"What {c.aux} {subject(r, c)} {c.verb} {rest_of(r, c, i, 1)} to do", (span[0] + 1, span[1]))
            elif i and r.random() < 0.7:
                add(3, assemble(r, c, "Why" if c.phrases[0][0] == "np" else "For what", rest), span)
        elif k == "adj" and i == 0 and c.be and not pronoun and c.t[span[1]:span[1] + 1] not in ("T", "I", "o", "K"):
            add(2, f"What {c.aux} {subject(r, c)} like", span)
    # what must, can, should it do; what does it do
    if c.phrases and not c.be and r.random() < 0.5 and not vague:
        first = c.phrases[0][1][0]
        last = c.phrases[min(len(c.phrases), r.choice((1, 2, 2, 3))) - 1][1][1]
        if c.plain:
            at = first - 1
            out.append((2, f"What {c.aux} {subject(r, c)} do {low(c.text(c.lead), c.t[c.lead[0]]) if c.lead else ''}", c.text((at, last))))
        elif c.aux in ("must", "can", "should", "may", "will", "shall", "could", "cannot") and not c.verb.startswith("be"):
            out.append((4, f"What {c.aux} {subject(r, c)} do {low(c.text(c.lead), c.t[c.lead[0]]) if c.lead else ''}", c.text((first - len(c.verb.split()), last))))
    return out


REASON = re.compile(r",? (?:(because|since)|(so that|in order to|in order that|so as to)) (?!of\b)")


def reasons(r, c):
    """Why, where the reason stands further on in the sentence than phrases are cut."""
    start = c.sp[c.after][0] if c.after < len(c.sp) else len(c.s)
    m = REASON.search(c.s, start)
    if not m or (m.group(1) == "since" and m.group()[0] != ","):
        return []
    end = re.compile(r"[.;:?!\"]|, (?:and|but|which|who)\b").search(c.s, m.end())
    why = c.s[m.end():end.start() if end else len(c.s)]
    rest = c.s[start:m.start()]
    if not 3 <= len(why.split()) <= 22 or len(rest.split()) > 22 or "\"" in rest:
        return []
    whole = c.s[m.start():m.end()].lstrip(", ") + why
    bare = m.group(1) or m.group(2) in ("so that", "in order that")
    ask = r.choice(("Why", "Why", "For what reason")) if m.group(1) else r.choice(("Why", "For what purpose", "Why"))
    return [(9, assemble(r, c, ask, rest), why if bare and r.random() < 0.7 else whole)]


def lex_third(base):
    return base + "es" if re.search(r"(?:s|x|z|ch|sh|o)$", base) else base[:-1] + "ies" if re.search(r"[^aeiou]y$", base) else base + "s"


def past_active(lex, c):
    """The simple past of a passive's participle, where one form serves both."""
    w = c.verb.split()[-1]
    b = lex.base.get((w, "V"))
    return w if b and lex.one_past.get(b) == w and c.aux in ("was", "were") else None


APPOSITION = re.compile(rf"((?:P)+),(D(?:R?J|[NP])*[N](?:o{NPC}|I{NPC})*)[,.;]")
NAMED = re.compile(r"(DJ?N)(?:E)(P+)")
CONDITION = re.compile(r"^(?:C,?)?(K)([^,;.?!:\"]{3,24}),([^;.?!:\"]{3,40})")


def others(r, lex, c):
    """Apposition, condition in front, speech."""
    out = []
    for m in APPOSITION.finditer(c.t):
        name, what = c.text(m.span(1)), c.text(m.span(2))
        person = wh(lex, c, m.span(2)) == "Who" or wh(lex, c, m.span(1)) == "Who"
        out.append((6, f"{'Who' if person else 'What'} {r.choice(('is', 'was'))} {name}", what))
        out.append((4, f"{'Who' if person else 'What'} {r.choice(('is', 'was'))} {what}", name))
    m = CONDITION.match(c.t)
    if m:
        k = c.text(m.span(1)).lower()
        if k in ("if", "when", "because", "since", "although", "unless", "after", "before", "until", "once"):
            cond, main = c.text(m.span(2)), c.text(m.span(3))
            cond = low(cond, c.t[m.start(2)])
            start = SUBJECT.match(c.t, m.start(3) + (c.t[m.start(3)] == "R"))
            if not start or not VERB.match(c.t, start.end()) or not FINITE.search(c.t, *m.span(2)):
                return out
            if k in ("if", "when", "unless", "after", "before", "once") and len(main.split()) <= 20:
                out.append((8, r.choice(("What happens {} {}", "What is the case {} {}", "What does the text say happens {} {}", "{} {}, what then", "What {} {}")).format(k, cond), main))
            elif k in ("because", "since") and len(cond.split()) <= 20:
                out.append((6, "Why is it that " + low(main, c.t[m.start(3)]), c.text(m.span(2))))
    return out


def speech(r, s):
    m = SPEECH.search(s)
    if not m:
        return None
    who = (m.group(2) or m.group(3)).strip()
    said = m.group(1).strip().rstrip(",.!?;")
    if who in ("Mr", "Mrs", "Dr", "Miss", "Sir", "Mr.", "Mrs.", "Dr.") or who.split()[0] in ("He", "She", "It", "They", "I", "But", "And", "Then", "So", "What"):
        return None
    words = said.split()
    if r.random() < 0.65:
        a = r.randint(0, max(0, len(words) - 8))
        bit = " ".join(words[a:a + r.randint(5, 14)])
        return r.choice(('Who said "{}"', "Who says {}", 'Whose words are "{}"', 'Who is the speaker of "{}"', "Who said that {}")).format(bit), who
    return (r.choice(("What did {} say", "What does {} say", "What were the words of {}")).format(who), said) if len(words) < 26 else None


def question(r, lex, s):
    """A question by syntax on one sentence of normalised white space, or None."""
    if not lex or not 35 < len(s) < 420:
        return None
    if ('"' in s or "“" in s) and r.random() < 0.8:
        said = speech(r, s)
        if said:
            return finish(said[0]), said[1]
    s = s.lstrip("\"“'‘-* ")
    c = Clause()
    c.s = s
    c.sp, c.t = lex.tag(s)
    found = of_clause(r, lex, c) if parse(lex, c) else []
    found += others(r, lex, c)
    for _ in range(min(3, len(found))):
        w, q, a = r.choices(found, [f[0] for f in found])[0]
        a = a.strip(" ,;:")
        if not fit(a) or s.count('"', s.find(a), s.find(a) + len(a)) % 2:
            continue
        known = {x.lower() for x in CONTENT.findall(q)} - COMMON
        vague = c.t[:1] == "O" or s.split()[0].lower() in VAGUE
        if len(known) < 2 + vague or a.count("`") % 2 or a.count("(") != a.count(")") or "myself" in q or re.search(r"(?<!\w)" + re.escape(a) + r"(?!\w)", q) or len(q) > 220:
            continue
        if " i " in q.lower() and r.random() < 0.8:
            q = re.sub(r"\bI\b", "the narrator", q)
            q = re.sub(r"\b[Mm]y\b", "the narrator's", q)
            q = re.sub(r"\bme\b", "the narrator", q)
            q = re.sub(r"\bam the\b", "is the", q)
            q = re.sub(r"\b[Hh]ave the\b", "has the", q)
            q = re.sub(r"\b[Dd]o the\b", "does the", q)
        return finish(q), a
    return None
