"""Newly written questions into one file of passages in the form of qa_written_train.

    python3 -m data.merge PASSAGES.json DATA written_more.jsonl.xz FILE...

PASSAGES.json is a list of [source, document name, text]. A FILE holds, after a line `=== N` that names a passage, lines
`question | answer`, `-` for a question that the passage does not answer. Answers must stand word for word in the
passage. A passage that shares eight words in a row with one of the validation sets in DATA is left out.
"""
import json
import lzma
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import tokenizer as tk  # noqa: E402

HELD_OUT = ("qa_written_val", "qa_val")


def grams(text, n=8):
    w = re.findall(r"\w+", text.lower())
    return {" ".join(w[i:i + n]) for i in range(len(w) - n + 1)}


def read(files, passages):
    """{passage number: {question: answer or None}} and the number of lines that were not usable."""
    out, bad = {}, 0
    for path in files:
        number = None
        for line in open(path, encoding="utf-8"):
            line = line.strip()
            m = re.match(r"=== ?(\d+)", line)
            if m:
                number = int(m.group(1)) if int(m.group(1)) < len(passages) else None
                continue
            if not line:
                continue
            q, bar, a = line.rpartition(" | ")
            q, a = " ".join(q.split()), " ".join(a.split())
            if not bar or number is None or not 8 <= len(q) <= 300 or not 0 < len(a) <= 200 or (a != "-" and a not in " ".join(passages[number][2].split())):
                bad += 1
                continue
            out.setdefault(number, {})[q] = None if a == "-" else a
    return out, bad


def main(passages, data, out, files):
    passages = json.load(open(passages, encoding="utf-8"))
    held = set()
    for name in HELD_OUT:
        for d in tk.lines(os.path.join(data, name + ".jsonl.xz")):
            held |= grams(d["text"])
    asked, bad = read(sorted(files), passages)
    rows = questions = unanswerable = overlapping = 0
    with lzma.open(out, "wt", encoding="utf-8", preset=9) as f:
        for number, qas in sorted(asked.items()):
            source, name, text = passages[number]
            if grams(text) & held:
                overlapping += 1
                continue
            f.write(json.dumps({"source": "written/" + source, "name": name, "text": " ".join(text.split()),
                                "qas": [{"question": q, "answer": a} for q, a in qas.items()]}, ensure_ascii=False) + "\n")
            rows += 1
            questions += len(qas)
            unanswerable += sum(a is None for a in qas.values())
    print(json.dumps({"passages": rows, "questions": questions, "unanswerable": unanswerable, "lines not usable": bad,
                      "passages left out for overlap": overlapping, "bytes": os.path.getsize(out)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
