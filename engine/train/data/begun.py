"""Answers that the prompt begins: what stands between the question and the first word that the model has to say itself.

An opening repeats the question as a statement, or the sentence that answers up to the answer, or is one of a few plain ones. The checks' own
opening ("... mentioned in the provided text is") is none of them.
"""
import re

PLAIN = ("The answer is", "It is", "Answer:", "The answer to this question is", "That is", "According to the documents, it is", "The documents say:", "As far as the documents tell, the answer is",
         "In short:", "The documents give", "A:", "I found this:")
STATED = (" is", " is", " is:", " was", " would be", " is said to be", " is given as", ", as the documents have it, is", " stands there as", ":")
SEVERAL = (" are", " are:", " are given as", ", in order, are", ":")
GAP = re.compile(r"__|\[blank\]|\.\.\.|\bsentence\b|\bexactly does it say\b|^(?:which (?:word|name):|complete the|fill in|quote|continue:)", re.I)
OF = re.compile(r"^(?:what|which) (?:is|are|was|were) (?P<x>(?:all )?(?:the|an?) [\w' -]{3,60}? (?:of|for) .{2,100}?|[A-Z][\w' -]+'s [\w -]{3,40}|[\w' -]+'s [\w -]{3,40})[?.]*$", re.I)
GIVE = re.compile(r"^(?:give|find|tell me|name|list|state|i need)(?: me)? (?P<x>(?:every|all|the) .{6,100}?)[?.]*$", re.I)
SUBJECT = ((re.compile(r"^who (?P<x>[a-z]+ .{4,90}?)[?.]*$", re.I), ("The one who {x} is", "The person who {x} was", "It was")),
           (re.compile(r"^when (?:was|were) (?P<x>.{6,90}?) (?P<v>\w+(?:ed|en|un|ilt|old|ent|ept|ost|ade))[?.]*$", re.I), ("{X} was {v} on", "{X} was {v} in", "The date when {x} was {v} is")),
           (re.compile(r"^when did (?P<x>.{6,100}?)[?.]*$", re.I), ("The time when that happened is", "This happened on", "That was in")),
           (re.compile(r"^where (?:is|was|are|were) (?P<x>.{4,90}?)[?.]*$", re.I), ("{X} is in", "The place is", "{X} can be found in")),
           (re.compile(r"^where (?P<x>.{6,100}?)[?.]*$", re.I), ("The place is", "That is in")),
           (re.compile(r"^how many (?P<x>\w+(?: \w+)?) .{4,90}?[?.]*$", re.I), ("The number of {x} is", "The number is", "The count of {x}:")),
           (re.compile(r"^how (?:much|long|far|old|high|deep) .{4,100}?[?.]*$", re.I), ("The amount is", "It comes to", "In numbers:")),
           (re.compile(r"^(?:what|which) (?P<x>[a-z]+(?: [a-z]+)?) (?:does|did|do|has|have|is|was) .{4,90}?[?.]*$", re.I), ("The {x} is", "The {x} in question is", "The {x}:")))


def cap(s):
    return s[:1].upper() + s[1:]


def opening(r, kind, question, answer, shown):
    """The beginning of an answer, or None where there is none that the answer would follow."""
    question = " ".join(question.split())
    if GAP.search(question):
        return None
    if shown and kind in ("needle", "multikey", "prose", "natural") and r.random() < 0.3:
        at = shown.find(answer)
        if at > 12 and shown[at - 1] == " ":
            return shown[:at].rstrip()[-110:].lstrip() if at <= 110 else shown[:at].rstrip()[-110:].partition(" ")[2]
    several = kind in ("multivalue", "multiquery")
    m = OF.match(question) or GIVE.match(question)
    if m:
        return cap(m["x"]) + r.choice(SEVERAL if several else STATED)
    if several:
        return r.choice(("They are", "These are:", "The answers are", "In the order of the question:"))
    for pattern, forms in SUBJECT:
        m = pattern.match(question)
        if m and r.random() < 0.8:
            x = m.groupdict().get("x") or ""
            return r.choice(forms).format(x=x, X=cap(x), v=m.groupdict().get("v"))
    return r.choice(PLAIN)
