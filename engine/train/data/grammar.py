"""Facts without fixed wordings: who did what, where, when, for how much and why, put together from parts.

Fixed templates are learnt by heart; here statement and question are composed
anew each time (active, passive, cleft, roles in any order, lead-ins, synonyms),
so that only matching meaning to meaning answers the question.
"""

VERBS = """accept acquire admire adopt advertise analyse announce approve arrange assemble assist attack auction avoid award bless
borrow cancel capture carry celebrate challenge check clean collect colour complete confirm consult copy count cover criticise
damage date decorate defend deliver demand describe design detect discover discuss display donate download drag
dye edit educate elect employ enjoy enlarge escort establish examine exchange exhibit explore export film finance finish follow forge
frame guard guide heat honour imitate import improve inherit inspect install insure interview introduce invent
invite label launch lecture lift load locate lock mail measure mention move name notice obtain offer open operate orchestrate order
organise own pack paint park perform photograph place plunder polish portray postpone praise prepare present preserve promise
protect publish pull purchase push question raise reach record reject remember remove rename rent replace report request rescue
reserve restore reveal review reward scan scratch serve share sign sketch smuggle sponsor study support surprise
test touch trace track trade train transport treasure treat uncover unload value visit want warn wash watch weigh welcome wrap""".split()
IRREGULAR = {"buy": ("bought", "bought"), "sell": ("sold", "sold"), "find": ("found", "found"), "lose": ("lost", "lost"), "steal": ("stole", "stolen"),
             "write": ("wrote", "written"), "draw": ("drew", "drawn"), "build": ("built", "built"), "break": ("broke", "broken"), "take": ("took", "taken"),
             "give": ("gave", "given"), "send": ("sent", "sent"), "bring": ("brought", "brought"), "choose": ("chose", "chosen"), "see": ("saw", "seen"),
             "make": ("made", "made"), "win": ("won", "won"), "leave": ("left", "left"), "keep": ("kept", "kept"), "meet": ("met", "met"),
             "teach": ("taught", "taught"), "throw": ("threw", "thrown"), "catch": ("caught", "caught"), "ride": ("rode", "ridden"), "drive": ("drove", "driven")}
SAME = [("buy", "purchase", "acquire", "obtain"), ("find", "discover", "uncover", "locate"), ("build", "make", "assemble"), ("start", "launch", "establish"),
        ("see", "notice", "watch"), ("send", "mail", "deliver"), ("inspect", "examine", "check", "review"), ("keep", "preserve"), ("take", "capture"),
        ("sign", "approve"), ("visit", "meet"), ("praise", "admire", "honour"), ("help", "assist", "support"), ("finish", "complete"), ("give", "donate", "present"),
        ("write", "record"), ("draw", "sketch"), ("show", "display", "exhibit"), ("want", "demand", "request"), ("protect", "guard", "defend"),
        ("wash", "clean"), ("finance", "sponsor"), ("reject", "cancel"), ("call", "name", "rename"), ("carry", "transport", "move"), ("employ", "engage"),
        ("invite", "welcome"), ("rent", "borrow"), ("plan", "design"), ("publish", "announce", "reveal")]
LEADS = """As it happens,|Rumour has it that|The clerk noted that|In short,|Few people know that|It is said that|We learned that|The minutes show that|Last of all,|
To our surprise,|It should be added that|The letter says that|By all accounts,|As a matter of fact,|A footnote explains that|People still recall how|In the end,|
For the record,|Someone told us that|The report states that|It turned out that|One more thing:|Afterwards|Meanwhile|In fact|Naturally,|Oddly enough,|The log reads:|
The newspaper wrote that|Everyone agreed that|It is worth knowing that|Sources say that|Not many remember that|Long ago,|At that time|Later on|Since then it is known that|
The guide told us that|Historians believe that|On paper,|The sign said that|I have it in writing that|Officially,|You may have heard that|The contract says that""".replace("\n", "").split("|")
TAILS = """, as the record shows|, so they say|, according to the clerk|, to nobody's surprise|, and that was that|, it seems|, if the diary is right|, which pleased everyone|
, though few noticed|, and the matter was closed|, as agreed|, without any trouble|, or so we heard|, after much debate""".replace("\n", "").split("|")
HEADS = {"number": "number code figure total index score quota", "digits7": "serial number|registration number|account number|file number", "money": "fee price cost tax fine toll reward salary value budget",
         "person": "officer manager owner author sponsor chief guide driver keeper editor painter tutor witness rival heir", "date": "date deadline anniversary day", "year": "year",
         "clock": "hour time curfew", "measure": "limit length depth weight range width distance period", "word": "word name title nickname symbol",
         "phrase": "motto plan rule advice aim duty", "uuid": "key token identifier", "hexcode": "hash signature digest", "code": "label tag code mark permit",
         "city": "town port base seat office station", "creature": "mascot badge animal", "count": "count size capacity number of members", "version": "version release level",
         "colour": "colour shade paint", "email": "address contact", "fruit": "crop dish flavour gift"}
HEADS = {k: v.split("|") if "|" in v else v.split() for k, v in HEADS.items()}
HEADS["count"] = ["count", "size", "capacity", "number of members"]
ATTR_STATE = ["{a} of {k}: {v}", "the {a} of {k} is {v}", "the {a} of {k} was {v}", "{k} has {v} as {a}", "{v} is {k}'s {a}", "{k}'s {a} is {v}", "{k} got the {a} {v}",
              "the {a} given to {k} was {v}", "for {k} they chose {v} as the {a}", "{v} became the {a} of {k}", "{k} kept {v} as its {a}", "the {a} that {k} uses is {v}",
              "with {k} the {a} is {v}", "{k} ({a}: {v}) is here", "{v} serves {k} as {a}", "the {a} at {k} stands at {v}", "{k} and its {a}, {v}, are well known"]
ATTR_ASK = ["what is the {a} of {k}?", "which {a} does {k} have?", "what is {k}'s {a}?", "what was the {a} of {k}?", "what {a} did {k} get?", "{a} of {k}?", "{k}: {a}?",
            "what serves as the {a} of {k}?", "give me {k}'s {a}.", "name the {a} of {k}.", "what does {k} have as {a}?", "what is said about the {a} of {k}?",
            "can you find the {a} of {k}?", "the {a} of {k} is what?", "what became the {a} of {k}?", "which {a} belongs to {k}?", "what {a} does {k} use?"]


def forms(base):
    if base in IRREGULAR:
        return IRREGULAR[base]
    past = base + "d" if base.endswith("e") else base[:-1] + "ied" if base.endswith("y") and base[-2] not in "aeiou" else base + "ed"
    return past, past


def cap(s):
    return s[:1].upper() + s[1:]


def dress(r, s):
    """A clause as a sentence, perhaps with a lead-in and a tail."""
    if r.random() < 0.35:
        s = r.choice(LEADS) + " " + s
    if r.random() < 0.15:
        s += r.choice(TAILS)
    return cap(s) + ("" if s[-1] in ".!?" else ".")


def synonym(r, verb):
    for g in SAME:
        if verb in g:
            return r.choice(g)
    return verb


def event(r, stock):
    """(statement, [(question, answer)]) of one happening."""
    v = r.choice(VERBS) if r.random() < 0.8 else r.choice(list(IRREGULAR))
    past, done = forms(v)
    other = None
    if stock.lexicon and stock.lexicon.verbs and r.random() < 0.4:  # stated by one verb, asked by another of the same meaning
        v, past, *other = r.choice(stock.lexicon.verbs)
        done = past
    subj = stock.key(r, r.choice(("person", "person", "person", "company", "name")))
    obj = stock.key(r, r.choice(("thing", "thing", "creature_the", "project", "file_name", "numbered", "person")))
    roles = {}
    if r.random() < 0.5:
        roles["where"] = (r.choice(("in", "near", "at")), stock.city(r)) if r.random() < 0.7 else (r.choice(("behind", "inside", "near", "under")), stock.thing(r))
    if r.random() < 0.5:
        k = r.choice(("date", "year", "clock", "weekday", "date"))
        value = getattr(stock, k)(r)
        roles["when"] = ({"clock": "at", "year": "in", "date": "on" if value[:1].isdigit() and len(value.split()) > 1 else "in"}.get(k, "on"), value)
    if r.random() < 0.22:
        roles["how much"] = ("for", stock.money(r) if r.random() < 0.6 else stock.measure(r))
    if r.random() < 0.18:
        roles["with"] = ("with", stock.person(r))
    if r.random() < 0.18:
        roles["why"] = ("to", stock.phrase(r))
    order = r.sample(list(roles), len(roles))
    if "why" in order:
        order.remove("why")
        order.append("why")
    tail = " ".join(f"{roles[k][0]} {roles[k][1]}" for k in order)
    kind = r.random()
    if kind < 0.5:
        s = f"{subj} {past} {obj} {tail}"
    elif kind < 0.75:
        s = f"{obj} was {done} by {subj} {tail}"
    elif kind < 0.85:
        s = f"it was {subj} who {past} {obj} {tail}"
    elif order and order[0] in ("when", "where"):
        k = order[0]
        rest = " ".join(f"{roles[x][0]} {roles[x][1]}" for x in order[1:])
        s = f"{roles[k][0]} {roles[k][1]} {subj} {past} {obj} {rest}"
    else:
        s = f"{subj} {r.choice(('once', 'also', 'finally', 'himself', 'secretly', 'later'))} {past} {obj} {tail}"
    ask = synonym(r, v) if r.random() < 0.3 else v
    ap, ad = forms(ask)
    if other is not None:
        ask, ap = other if r.random() < 0.6 else (v, past)
        ad = ap
    some = lambda p: r.random() < p
    qs = [(r.choice((f"Who {ap} {obj}?", f"By whom was {obj} {ad}?", f"Who was it that {ap} {obj}?", f"Which person or company {ap} {obj}?")), subj),
          (r.choice((f"What did {subj} {ask}?", f"What was {ad} by {subj}?", f"Whom or what did {subj} {ask}?")), obj)]
    for k, (prep, value) in roles.items():
        act = r.choice((f"did {subj} {ask} {obj}", f"was {obj} {ad}", f"did {subj} {ask} {obj}", f"was {obj} {ad} by {subj}"))
        if k == "where":
            qs.append((r.choice((f"Where {act}?", f"In what place {act}?", f"Where was it that {subj} {ap} {obj}?")), value))
        elif k == "when":
            qs.append((r.choice((f"When {act}?", f"On what date or at what time {act}?", f"When exactly {act}?", f"when {act}")), value))
        elif k == "how much":
            qs.append((r.choice((f"For how much {act}?", f"How much or how long {act} for?", f"What for: {act}?")), value))
        elif k == "with":
            qs.append((r.choice((f"With whom {act}?", f"Who was with {subj} when {obj} was {ad}?", f"Together with whom {act}?")), value))
        else:
            qs.append((r.choice((f"Why {act}?", f"For what purpose {act}?", f"What {act} for?")), r.choice((f"to {value}",))))
    return dress(r, s.strip()), r.sample(qs, min(len(qs), 2 if some(0.7) else 3))


def attribute(r, stock):
    """(statement, [(question, answer)]) of an attribute named by any words at all."""
    kind = r.choice(list(HEADS))
    head = r.choice(HEADS[kind])
    a = r.choice((f"{stock.any_word(r)} {head}", head, f"{stock.any_word(r)} {head}", f"{stock.any_word(r)} {stock.any_word(r)}"))
    k = stock.key(r)
    v = getattr(stock, kind)(r)
    qa = a if r.random() < 0.8 else head if head in a else a
    q = cap(r.choice(ATTR_ASK).format(a=qa, k=k))
    return dress(r, r.choice(ATTR_STATE).format(a=a, k=k, v=v)), [(q, v)]


def story(r, stock, n):
    """n statements about look-alike subjects and the questions on them, [(question, answer, statement)]."""
    st, qs = [], []
    for _ in range(n):
        s, q = event(r, stock) if r.random() < 0.6 else attribute(r, stock)
        st.append(s)
        qs += [(*x, s) for x in q]
    return st, qs
