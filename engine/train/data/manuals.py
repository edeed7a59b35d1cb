"""Prose of free manuals as one more part of the prose.

    apt-get download anarchism apache2-doc debian-handbook debian-policy developers-reference git-doc harden-doc dict-jargon dict-devil \\
        perl-doc postgresql-doc-15 python3.11-doc linux-doc-6.1
    for f in *.deb; do dpkg -x $f X/${f%%_*}; done
    python3 -m data.manuals X DATA OUT/prose-4.jsonl.xz

Rows are {source: "manuals", name, text}. English pages only. Blocks that share eight words in a row with the licences of a Debian
machine ($PHAROS_LICENCES, else /usr/share/common-licenses: a check that must stay unseen) or with a validation passage are left out,
and so is all code, tables of links, and what is not mostly words.
"""
import glob
import gzip
import html.parser
import json
import lzma
import os
import random
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import tokenizer as tk  # noqa: E402
from data.merge import HELD_OUT, grams  # noqa: E402

LICENCES = os.environ.get("PHAROS_LICENCES", "/usr/share/common-licenses")
# package: (pattern of its files, form, licence, most characters)
SOURCES = {
    "anarchism": ("usr/share/doc/anarchism/html/*.html", "html", "GPL-2", 12e6),
    "apache2-doc": ("usr/share/doc/apache2-doc/manual/en/**/*.html", "html", "Apache-2.0", 6e6),
    "debian-handbook": ("usr/share/doc/debian-handbook/html/en-US/*.html", "html", "CC-BY-SA-3.0 or GPL-2+", 4e6),
    "debian-policy": ("usr/share/doc/debian-policy/*.html/*.html", "html", "GPL-2+", 2e6),
    "developers-reference": ("usr/share/developers-reference/*.html", "html", "GPL-2+", 2e6),
    "harden-doc": ("usr/share/doc/harden-doc/html/en-US/*.html", "html", "GPL-2+", 2e6),
    "postgresql-doc-15": ("usr/share/doc/postgresql-doc-15/html/*.html", "html", "PostgreSQL", 8e6),
    "git-doc": ("usr/share/doc/git-doc/**/*.txt", "text", "GPL-2", 4e6),
    "perl-doc": ("usr/share/perl/*/pod/*.pod", "pod", "Artistic or GPL-1+", 6e6),
    "python3.11-doc": ("usr/share/doc/python3.11/html/_sources/**/*.txt", "text", "PSF-2", 8e6),
    "linux-doc-6.1": ("usr/share/doc/linux-doc-6.1/Documentation/**/*.rst.gz", "text", "GPL-2", 8e6),
    "dict-jargon": ("usr/share/dictd/*.dict.dz", "dict", "public domain", 2e6),
    "dict-devil": ("usr/share/dictd/*.dict.dz", "dict", "public domain", 1e6),
}
BLOCKS = {"p", "li", "dd", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "tr", "div", "br", "blockquote", "table", "ul", "ol", "dl", "body", "section"}
HIDDEN = {"script", "style", "pre", "nav", "head"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.blocks, self.now, self.hidden = [], [], 0

    def cut(self):
        text = " ".join("".join(self.now).split())
        if text:
            self.blocks.append(text)
        self.now = []

    def handle_starttag(self, tag, attrs):
        if tag in HIDDEN:
            self.hidden += 1
        if tag in BLOCKS:
            self.cut()

    def handle_endtag(self, tag):
        if tag in HIDDEN and self.hidden:
            self.hidden -= 1
        if tag in BLOCKS:
            self.cut()

    def handle_data(self, data):
        if not self.hidden:
            self.now.append(data)


def blocks_of(raw, form):
    if form == "html":
        p = Page()
        p.feed(raw)
        p.cut()
        return p.blocks
    if form == "pod":
        raw = re.sub(r"(?m)^=(?:head\d|item|over|back|cut|pod|for|begin|end|encoding)[ \t]*", "", raw)
        for _ in range(3):
            raw = re.sub(r"[A-Z]<+ ?([^<>|]*?(?:\|[^<>]*?)?) ?>+", lambda m: m.group(1).split("|")[0], raw)
    if form == "text":  # directives and roles of reStructuredText and AsciiDoc
        raw = re.sub(r"(?m)^\.\. .*$|^[=\-~^\"#*+]{3,}$|^\[.*\]$|^:[\w-]+:.*$", "", raw)
        raw = re.sub(r":[\w:+-]+:`~?!?([^`<]*?)(?: <[^`]*)?`", r"\1", raw)
        raw = re.sub(r"linkgit:([\w-]+)\[\d\]|``([^`]*)``", lambda m: m.group(1) or m.group(2) or "", raw)
    out = []
    for b in re.split(r"\n[ \t]*\n", raw):
        rows = b.split("\n")
        if form != "dict" and rows and all(r[:1] in " \t" for r in rows if r) and form != "text":
            continue  # code
        out.append(" ".join(b.split()))
    return out


def plain(block):
    """Mostly words, in sentences or a heading."""
    letters = sum(c.isalpha() or c == " " for c in block)
    return len(block) < 4000 and letters > 0.86 * len(block) and sum(ord(c) > 0x250 for c in block) < 5


def main(folder, data, out):
    held = set()
    for path in glob.glob(os.path.join(LICENCES, "*")):
        held |= grams(open(path, encoding="utf-8", errors="replace").read())
    for name in HELD_OUT:
        for d in tk.lines(os.path.join(data, name + ".jsonl.xz")):
            held |= grams(d["text"])
    rows, report, seen = [], {}, set()
    for package, (pattern, form, licence, most) in SOURCES.items():
        paths = sorted(glob.glob(os.path.join(folder, package, pattern), recursive=True))
        random.Random(package).shuffle(paths)
        size = left_out = 0
        for path in paths:
            with (gzip.open if path.endswith((".gz", ".dz")) else open)(path, "rb") as f:
                raw = f.read().decode(errors="replace").replace("\r\n", "\n")
            kept, long = [], 0
            for b in blocks_of(raw, form):
                if not plain(b) or (len(b) > 60 and b in seen):
                    continue
                if grams(b) & held:
                    left_out += 1
                    continue
                if len(b) < 60 and kept and len(kept[-1]) < 60:
                    kept.pop()  # one heading after another, or a list of links
                seen.add(b)
                kept.append(b)
                long += len(b) if len(b) >= 60 else 0
            text = "\n\n".join(kept)
            if long < 1200 or long < 0.7 * len(text):
                continue
            name = os.path.basename(path).replace(".gz", "").replace(".dz", "")
            pieces = [kept] if form != "dict" else [kept[i:i + 60] for i in range(0, len(kept), 60)]
            for i, p in enumerate(pieces):
                rows.append({"source": "manuals", "name": name if len(pieces) == 1 else f"{name.split('.')[0]}-{i + 1}.txt", "text": "\n\n".join(p)})
            size += len(text)
            if size > most:
                break
        report[package] = [size, left_out, licence]
    random.Random(5).shuffle(rows)
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with lzma.open(out, "wt", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(json.dumps({"documents": len(rows), "characters": sum(len(r["text"]) for r in rows), "bytes": os.path.getsize(out),
                      "packages (characters, blocks left out, licence)": report}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
