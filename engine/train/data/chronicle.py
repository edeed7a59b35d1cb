"""Documents with many dates, numbers and names side by side: title pages, histories, conditions with their terms and amounts. What is asked tells them apart."""
from . import evidence

KINDS = """Manual Charter Statute Specification Handbook Directive Treaty Regulation Agreement Standard Guide Protocol Catalogue Covenant Constitution Report""".split()
ORDINAL = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
DONE = "published published released issued adopted".split()
EVENTS = """the {a} {n} was opened|the {n} of {p} burned down|{x} became head of the {n}|{x} left the {n}|the {a} {n} was sold to {c}|{x} discovered the {a} {n}|a {n} was built in {t}|
{x} died in {t}|{x} was born in {t}|the {n} moved to {t}|{c} took over the {n}|work on the {a} {n} began|work on the {a} {n} ended|the {a} {n} was destroyed|{x} married {y}|the first {n} was sold|
the {a} {n} sank near {t}|{x} was elected to the {n}|the {n} of {t} was enlarged|{x} gave up the {a} {n}|{c} opened an office in {t}|the {n} was renamed after {x}|{x} was arrested in {t}|
the {a} {n} won the medal|the price of the {n} doubled|{x} visited {t}|{x} wrote the {a} {n}|the people of {t} rebuilt the {n}""".replace("\n", "").split("|")


def fill(r, stock, form):
    return form.format(a=stock.any_word(r), n=stock.any_word(r), x=stock.person(r), y=stock.person(r), p=stock.town(r), t=stock.city(r), c=stock.company(r))


def shown(line, answer):
    """The evidence of an answer that stands in a line."""
    line = evidence.clean(line)
    at = line.find(answer)
    return evidence.window(line, at, at + len(answer)) if at >= 0 and len(answer) * 3 <= len(line) * 2 else None


def base(verb):
    """"sank near" -> how it is asked with "did": the verb as it is told stays where its form is not known."""
    return {"was": "be", "became": "become", "left": "leave", "died": "die", "moved": "move", "took": "take", "began": "begin", "ended": "end", "sank": "sink", "married": "marry", "gave": "give",
            "opened": "open", "won": "win", "doubled": "double", "visited": "visit", "wrote": "write", "rebuilt": "rebuild", "discovered": "discover"}.get(verb)


def when_question(r, event):
    """When something told as a past clause happened."""
    words = event.split()
    for i, w in enumerate(words):
        if w == "was" and i:
            return r.choice(("When was {s} {v}?", "In what year or on what day was {s} {v}?", "On what date was {s} {v}?", "when was {s} {v}")).format(s=" ".join(words[:i]), v=" ".join(words[i + 1:]))
        if base(w) and i:
            return r.choice(("When did {s} {v}?", "What is the date when {s} {o}?", "when did {s} {v}")).format(
                s=" ".join(words[:i]), v=" ".join([base(w)] + words[i + 1:]), o=" ".join(words[i:]))
    return f"When was it that {event}?"


def history(r, stock, rows):
    """(name, text, questions) of `rows` dated events, in order of time or not."""
    kind = r.choice(("year", "date", "date"))
    events = [(getattr(stock, kind)(r), fill(r, stock, r.choice(EVENTS))) for _ in range(rows)]
    style = r.randrange(5)
    lines = []
    for d, e in events:
        s = r.randrange(4) if style == 4 else style
        on = "in" if kind == "year" or not any(c.isdigit() for c in d.split()[0]) or len(d.split()) == 1 else "on"
        lines.append((f"{d}: {e}.", f"{on.capitalize()} {d} {e}.", f"{e[:1].upper()}{e[1:]} ({d}).", f"{e[:1].upper()}{e[1:]} {on} {d}.")[s])
    text = ("\n" if style < 3 and r.random() < 0.6 else " ").join(lines)
    qs = []
    for i in r.sample(range(rows), min(rows, 5)):
        d, e = events[i]
        if sum(d == x for x, _ in events) > 1 or sum(e == x for _, x in events) > 1:
            continue
        ev = shown(lines[i], d)
        if r.random() < 0.75:
            qs.append(("multikey", when_question(r, e), d, ev))
        else:
            told = e if style != 2 and style != 3 and style != 4 else e[:1].upper() + e[1:]
            if told in lines[i]:
                qs.append(("multikey", r.choice(("What happened {o} {d}?", "Which event is dated {d}?", "What took place {o} {d}?")).format(o="in" if kind == "year" else "on", d=d), told,
                           None if len(told) * 3 > len(lines[i]) * 2 else shown(lines[i], told)))
    return stock.file_name(r), text, qs


def title_pages(r, stock, n):
    """(name, text, questions) of one work in several versions, each with its own date, place, holder and number of pages; sometimes followed by what a reader should know."""
    title = r.choice(("The {A} {N} {K}", "{A} {N} {K}", "{K} of the {A} {N}", "{C} {N} {K}", "{K} on {N}")).format(
        A=stock.any_word(r).capitalize(), N=stock.any_word(r).capitalize(), K=r.choice(KINDS), C=stock.name(r))
    if r.random() < 0.3:
        shown_title = title.upper()
    else:
        shown_title = title
    short = "".join(w[0] for w in title.split() if w[0].isupper())
    parts, qs, seen = [], [], set()
    numbers = r.sample(range(1, 10), n)
    lines = {}
    for v in numbers:
        v = f"{v}.{r.randint(0, 4)}" if r.random() < 0.3 else str(v)
        d, holder, where = stock.date(r), stock.company(r) if r.random() < 0.6 else stock.person(r), stock.city(r)
        year = next((w.strip(",") for w in d.replace("-", " ").split() if len(w.strip(",")) == 4 and w.strip(",").isdigit()), stock.year(r))
        if d in seen or holder in seen or v in lines:
            continue
        seen |= {d, holder}
        word = r.choice(("Version", "Version", "Release", "Edition", "Revision"))
        rows = [shown_title, f"{word} {v}, {d}", r.choice((f"Copyright (C) {year} {holder}", f"Copyright (c) {year} by {holder}, {where}", f"Published by {holder}, {where}", f"{holder}\n{where}"))]
        if r.random() < 0.5:
            rows.append(r.choice(("Everyone is permitted to copy and distribute copies of this document.", "All rights reserved.", f"This {word.lower()} replaces all earlier ones.",
                                  f"{r.randint(8, 900)} pages.", f"Comments go to {stock.email(r)} within {stock.measure(r)}.")))
        lines[v] = rows
        pad = r.choice(("", "", " " * r.randint(4, 24)))
        parts.append("\n".join((pad + x if r.random() < 0.9 else x) for row in rows for x in row.split("\n")))
        names = [title, title, f"the {title}" if not title.startswith("The") else title] + ([short] if len(short) > 2 else [])
        t, low = r.choice(names), word.lower()
        mark = r.choice((f"{low} {v} of {t}", f"{low} {v} of {t}", f"{t} {v}", f"{t}, {low} {v},"))
        qs.append(("multikey", r.choice((f"When was {mark} {r.choice(DONE)}?", f"What is the date of {mark}?", f"When did {mark} come out?", f"What date does {mark} carry?")).replace(",?", "?"),
                   d, shown(f"{rows[0]} {rows[1]}", d)))
        qs.append(("multikey", r.choice((f"Who holds the copyright of {mark}?", f"Who published {mark}?", f"Which holder is named by {mark}?")).replace(",?", "?"), holder, evidence.clean(rows[2]) if len(rows[2]) * 2 > len(holder) * 3 else None))
        if where in rows[2]:
            qs.append(("multikey", r.choice((f"Where is the publisher of {mark} based?", f"What city is given in {mark}?")), where, evidence.clean(rows[2]) if len(rows[2]) * 2 > len(where) * 3 else None))
    return r.choice((title, short + ".txt" if len(short) > 1 else title, stock.file_name(r))), "\n\n".join(parts), r.sample(qs, min(len(qs), 6))


PARTY = "licensee licensor holder owner tenant author editor contributor distributor member buyer seller borrower keeper recipient guest".split()
DUTY = """return the {n}|repair the {n}|pay for the {n}|answer the complaint about the {n}|hand over the {n}|publish the {n}|offer a copy of the {n}|remove the {n}|give notice of the {n}|
appeal against the {n}|keep the {n}|renew the {n}|insure the {n}|object to the {n}|report the {n}""".replace("\n", "").split("|")
TERM = ("Within {m} of {e} the {p} has to {d}.", "The {p} must {d} within {m} of {e}.", "If the {p} fails to {d} within {m} of {e}, this agreement ends.", "For at least {m} after {e} the {p} shall {d}.",
        "The {p} may {d} until {m} have passed since {e}.", "({i}) after {e}, the {p} is given {m} to {d};")
SINCE = "{g} the notice|the first {w}|the delivery|{g} the {w}|the end of the {w}|the death of {x}|the {w} of the {w2}".split("|")
FEE = ("For the {n} the {p} pays {v}.", "The {p} owes {v} for each {n}.", "{v} is due from the {p} for the {n}.", "A {n} costs the {p} {v}.")


def conditions(r, stock, n):
    """(name, text, questions) of n conditions in the manner of contracts and licences: terms, fees and shares of alike parties for alike things."""
    lines, qs, seen = [], [], set()
    parties = r.sample(PARTY, r.randint(1, 3))
    for i in range(n):
        p, w = r.choice(parties), stock.any_word(r)
        if r.random() < 0.65:
            form = r.choice(TERM)
            d = r.choice(DUTY).format(n=stock.any_word(r))
            e = r.choice(SINCE).format(g=r.choice(("receiving", "receipt of", "signing", "losing")), w=w, w2=stock.any_word(r), x=stock.person(r))
            m = r.choice((f"{r.randint(2, 99)} {r.choice(('hours', 'days', 'weeks', 'months'))}", f"{r.choice((7, 10, 14, 15, 20, 28, 30, 45, 60, 90, 120))} days", f"{r.choice(('two', 'three', 'four', 'five', 'six', 'twelve'))} {r.choice(('days', 'weeks', 'months', 'years'))}"))
            line = form.format(m=m, e=e, p=p, d=d, i="ivxabcdefg"[i % 10])
            asked = [(r.choice((f"How long does the {p} have to {d}?", f"Within what time must the {p} {d}?", f"How long after {e} may the {p} {d}?", f"What is the time limit to {d}?",
                                f"How much time is there to {d} after {e}?")), m, d)]
        else:
            thing = f"{stock.any_word(r)} {w}"
            v = r.choice((stock.money(r), f"{r.randint(1, 99)}%", f"{r.randint(2, 60)} percent of the {stock.any_word(r)}"))
            line = r.choice(FEE).format(n=thing, p=p, v=v)
            asked = [(r.choice((f"What does the {p} pay for the {thing}?", f"How much is due for the {thing}?", f"How much does a {thing} cost the {p}?", f"What share or sum is owed for the {thing}?")), v, thing)]
        lines.append(f"{i + 1}. {line}" if r.random() < 0.3 else line)
        for q, a, about in asked:
            if about not in seen:
                qs.append(("multikey", q, a, shown(lines[-1], a)))
            seen.add(about)
    head = f"{r.choice(KINDS)} of {stock.company(r)}"
    parts = r.sample(range(len(lines)), len(lines))
    body = ("\n" if r.random() < 0.5 else " ").join(lines[i] for i in (parts if r.random() < 0.5 else range(len(lines))))
    return r.choice((head, stock.file_name(r))), head.upper() + "\n\n" + body, r.sample(qs, min(len(qs), 6))


LESSER = "{t}|Lesser {t}|Extended {t}|{t} for {W}|Revised {t}|{t}, {o} Part|Small {t}|Common {t}|{A} {t}".split("|")


def titles(r, stock, n):
    """n titles that differ in one word or number, each with its short form: [(title, short)]."""
    base = f"{stock.any_word(r).capitalize()} {stock.any_word(r).capitalize()} {r.choice(KINDS)}"
    letters = "".join(w[0] for w in base.split())
    if r.random() < 0.5:
        return [(f"{base} {r.choice(('Version', 'Edition', 'Release'))} {v}" if r.random() < 0.5 else f"{base} {v}", f"{letters}-{v}") for v in r.sample(range(1, 12), n)]
    out = {}
    for form in r.sample(LESSER, len(LESSER)):
        t = form.format(t=base, W=stock.any_word(r).capitalize(), A=stock.any_word(r).capitalize(), o=r.choice(ORDINAL).capitalize())
        out.setdefault("".join(w[0] for w in t.replace(",", "").split()), t)
    return [(t, f"{s}-{r.randint(1, 4)}") for s, t in list(out.items())[:n]]


def front(r, stock, title, short):
    """(text, questions) of the page that begins a document of that title: date and holder."""
    d, holder = stock.date(r), stock.company(r) if r.random() < 0.6 else stock.person(r)
    while len(d) < 7:
        d = stock.date(r)
    pad = r.choice(("", "", " " * r.randint(6, 24)))
    rows = [title.upper() if r.random() < 0.4 else title, r.choice(("{d}", "of {d}", "Issued {d}", "{d}", "Last changed: {d}")).format(d=d),
            r.choice(("Copyright (C) {h}", "Published by {h}", "(c) {h}", "{h}")).format(h=holder)]
    mark = lambda: r.choice((title, title, f"the {title}", short))
    qs = [("multikey", r.choice((f"When was {mark()} {r.choice(DONE)}?", f"What is the date of {mark()}?", f"When did {mark()} come out?", f"What date does {mark()} carry?")), d, shown(f"{rows[0]} {rows[1]}", d)),
          ("multikey", r.choice((f"Who published {mark()}?", f"Who holds the copyright of {mark()}?", f"Whose is {mark()}?")), holder, None)]
    return "\n".join(pad + x for x in rows), qs


def text(r, stock, n):
    """(name, text, questions) of about n tokens at most."""
    if r.random() < 0.3 and n > 120:
        return conditions(r, stock, max(3, min(n // 30, r.randint(3, 18))))
    if r.random() < 0.45 and n > 150:
        return title_pages(r, stock, max(1, min(n // 60, r.randint(1, 5))))
    return history(r, stock, max(3, min(n // 26, r.randint(4, 30))))
