"""Checks of the trainer that run on a CPU in under a minute.

    python3 -m unittest engine/train/test_train.py        (from the repository root, or here)

The reference vectors are looked for in $PHAROS_GOLDEN, else in ../shared/golden beside the
repository; the prose in $PHAROS_DATA, else ../shared/data. Absent: those tests are skipped.
"""
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
BESIDE = os.path.join(HERE, "..", "..", "..", "shared")
GOLDEN = os.environ.get("PHAROS_GOLDEN", os.path.join(BESIDE, "golden"))
DATA = os.environ.get("PHAROS_DATA", os.path.join(BESIDE, "data"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

import average  # noqa: E402
import checkpoint  # noqa: E402
import evaluate  # noqa: E402
import export  # noqa: E402
import muon  # noqa: E402
import sparse  # noqa: E402
import tokenizer as tk  # noqa: E402
from config import Config, toy_config  # noqa: E402
from data import begun, chronicle, evidence, facts, formation, glossary, grammar, natural, packs, prose_tasks, scenes  # noqa: E402
from data import templates as T  # noqa: E402
from data.lexicon import Lexicon  # noqa: E402
from data.words import ADJ, FIRST, LAST, NOUN, Stock, part  # noqa: E402
from model import Model  # noqa: E402


def toy_model(seed=1):
    m = Model(toy_config())
    m.init_weights(seed)
    return m


class Reference(unittest.TestCase):
    @unittest.skipUnless(os.path.isdir(os.path.join(GOLDEN, "v32-plain")), "no reference vectors")
    def test_forward_equals_reference_with_selection_forced(self):
        for name in ("v32-plain", "v32-plain-16h"):
            folder = os.path.join(GOLDEN, name)
            model = export.load(folder)
            want = export.read_safetensors(os.path.join(folder, "expected.safetensors"))
            ids = torch.from_numpy(want["input_ids"].astype(np.int64))[None]
            t, n = ids.shape[1], model.cfg.num_hidden_layers
            pos = torch.arange(t)[None]
            forced = []
            for i in range(n):
                sel = torch.from_numpy(want[f"topk.{i}"].astype(np.int64))
                forced.append(torch.where(sel > torch.arange(t)[:, None], torch.full_like(sel, -1), sel).int())
            own = []
            with torch.no_grad():
                hidden = model.sparse(ids, pos, forced=forced)
                logits = model.logits(hidden)
                model.sparse(ids, pos, each_layer=lambda i, parts, idx: own.append(idx))
            self.assertLess(np.abs(hidden.numpy() - want[f"hidden.{n}"]).max(), 2e-5)
            self.assertLess(np.abs(logits.numpy() - want["logits"]).max(), 2e-5)
            same = [len(set(a.tolist()) & set(b.tolist())) / len(set(b.tolist())) for x, y in zip(own, forced) for a, b in zip(x, y)]
            self.assertGreater(np.mean(same), 0.99)


class Forms(unittest.TestCase):
    def test_sparse_equals_dense_when_everything_is_selected(self):
        model = toy_model()
        ids, pos = torch.randint(7, 263, (2, 60)), torch.arange(60)[None].repeat(2, 1)
        with torch.no_grad():
            a, b = model.dense(ids, pos), model.sparse(ids, pos, topk=60)
        self.assertLess((a - b).abs().max(), 1e-4)

    def test_branches_answer_as_the_whole_sequence_does(self):
        model = toy_model()
        r = random.Random(2)
        hay = [r.randint(7, 262) for _ in range(90)]
        prompts = [[r.randint(7, 262) for _ in range(n)] for n in (3, 9, 5)]
        for mode in ("sparse", "dense"):
            got = evaluate.ask(model, evaluate.prefill(model, hay, mode), prompts, 4, mode)
            for p, g in zip(prompts, got):
                seq = hay + p
                for _ in range(4):
                    ids = torch.tensor(seq)[None]
                    with torch.no_grad():
                        h = (model.sparse if mode == "sparse" else model.dense)(ids, torch.arange(len(seq))[None])
                    seq.append(int(model.logits(h)[-1].argmax()))
                self.assertEqual(seq[len(hay) + len(p):][:len(g)], g)

    def test_dropout_is_off_unless_asked_for(self):
        model = toy_model()
        ids, pos = torch.randint(7, 263, (1, 40)), torch.arange(40)[None]
        with torch.no_grad():
            plain = model.dense(ids, pos)
            self.assertEqual(model.set_dropout(0.5), 0.0)
            self.assertGreater((model.dense(ids, pos) - plain).abs().max(), 1e-2)
            self.assertEqual(model.set_dropout(0.0), 0.5)
            self.assertTrue(torch.equal(model.dense(ids, pos), plain))

    def test_quote_and_answer_come_apart(self):
        tok = tk.ByteTokenizer()
        said = tok.encode("It was 42.") + [tk.END_THINK] + tok.encode("42")
        self.assertEqual(evaluate.split_quote(tok, said, "quote"), ("It was 42.", "42"))
        self.assertEqual(evaluate.split_quote(tok, said[:5], "quote"), ("It wa", ""))
        self.assertEqual(evaluate.split_quote(tok, tok.encode("42"), "direct"), ("", "42"))
        rows = [("written", "42", ["42"], 0, "It was 42."), ("written", "7", ["8"], 0, "No."), ("written", T.ABSENT, [T.ABSENT], 1, "")]
        figures = evaluate.summarise("written", rows)
        self.assertEqual((figures["quoted"], figures["f1"], figures["balanced"]), (50.0, 50.0, 100.0))

    def test_sparse_attention_has_the_gradient_of_dense(self):
        torch.manual_seed(0)
        q, kv = torch.randn(40, 4, 48, requires_grad=True), torch.randn(40, 48, requires_grad=True)
        idx = sparse.select_plain(torch.randn(40, 2, 8), torch.randn(40, 8), torch.rand(40, 2), 1, 40)
        out = sparse.attend_plain(q, kv, idx, 32, 0.2)
        mask = torch.ones(40, 40).tril().bool()
        p = (torch.einsum("nhd,md->nhm", q, kv) * 0.2).masked_fill(~mask[:, None], float("-inf")).softmax(-1)
        want = torch.einsum("nhm,md->nhd", p, kv[:, :32])
        self.assertLess((out - want).abs().max(), 1e-5)
        a = torch.autograd.grad(out.sin().sum(), (q, kv))
        b = torch.autograd.grad(want.sin().sum(), (q, kv))
        self.assertLess(max((x - y).abs().max() for x, y in zip(a, b)), 1e-4)

    def test_losses_stay_with_their_own_parameters(self):
        model = toy_model()
        ids, pos = torch.randint(7, 263, (1, 64)), torch.arange(64)[None]
        kls = []
        hidden = model.sparse(ids, pos, each_layer=lambda i, parts, idx: kls.append(
            sparse.selected_kl(parts, idx, torch.arange(32, 64), model.cfg.scale)))
        for loss, inside in ((sum(kls), True), (hidden.sum(), False)):
            grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
            for (n, _), g in zip(model.named_parameters(), grads):
                if g is not None:
                    self.assertEqual("indexer" in n, inside, n)


class Files(unittest.TestCase):
    def test_fp8_rounds_to_nearest(self):
        x = np.linspace(-448, 448, 20001).astype(np.float32)
        got = export.VALUES[export.to_e4m3(x)]
        grid = np.sort(export.VALUES[np.isfinite(export.VALUES)])
        near = grid[np.clip(np.searchsorted(grid, x), 1, len(grid) - 1)], grid[np.clip(np.searchsorted(grid, x) - 1, 0, len(grid) - 1)]
        self.assertLess(np.abs(np.abs(got - x) - np.minimum(np.abs(near[0] - x), np.abs(near[1] - x))).max(), 1e-4)

    def test_mean_of_checkpoints(self):
        a, b = toy_model(1).state_dict(), toy_model(2).state_dict()
        out = average.mean([a, b], [3, 1])
        self.assertEqual(set(out), set(a))
        for name in a:
            self.assertTrue(torch.allclose(out[name], 0.75 * a[name] + 0.25 * b[name], atol=1e-6))

    def test_export_and_checkpoint_come_back(self):
        model = toy_model()
        with tempfile.TemporaryDirectory() as d:
            checkpoint.save_compact(d, model, {"stage": 3})
            other = toy_model(2)
            self.assertEqual(checkpoint.load(d, other)[1]["stage"], 3)
            for a, b in zip(model.parameters(), other.parameters()):
                self.assertLessEqual((a - b).abs().max(), 0.01 * a.abs().max())
            export.write(model, d)
            back = export.load(d)
            export.round_model(model)
            for (n, a), b in zip(model.named_parameters(), back.parameters()):
                self.assertTrue(torch.equal(a, b), n)
            self.assertEqual(Config.from_json(os.path.join(d, "config.json")), model.cfg)

    def test_licence_answers_stand_in_their_files(self):
        for line in open(os.path.join(HERE, "licences.jsonl")):
            row = json.loads(line)
            path = os.path.join(evaluate.LICENCES, row["file"])
            if os.path.exists(path):
                self.assertIn(row["answer"].lower(), " ".join(open(path, errors="replace").read().lower().split()), row)


class Data(unittest.TestCase):
    def test_train_and_check_share_no_wording_and_no_key_word(self):
        self.assertFalse(set(T.STATE) & set(T.STATE_CHECK) or set(T.ASK) & set(T.ASK_CHECK))
        for side in (2, 3):
            a, b = ({s for rel in rels for s in rel[side]} for rels in (T.RELATIONS + scenes.SCENES, T.RELATIONS_CHECK))
            self.assertFalse(a & b)
        for words in (ADJ, NOUN, FIRST, LAST):
            self.assertFalse(set(part(words, "train")) & set(part(words, "check")))

    def test_facts_answer_their_questions(self):
        r, stock = random.Random(5), Stock("train")
        for _ in range(300):
            statements, qs = facts.group(r, stock)
            text = " ".join(statements)
            for kind, q, a, shown in qs:
                if kind in ("needle", "multikey"):
                    self.assertIn(a.lower(), text.lower())
                if kind != "absent" and kind != "multiquery" and shown:
                    self.assertIn(shown, text)
                    for word in a.split(", "):
                        self.assertIn(word.lower(), shown.lower())

    def test_crowds_hold_every_key_that_is_asked(self):
        r, stock, kinds = random.Random(2), Stock("train"), set()
        for _ in range(100):
            statements, qs = facts.crowd(r, stock, 20)
            self.assertGreaterEqual(len(statements), 2)
            for kind, q, a, shown in qs:
                kinds.add(kind)
                self.assertIn(kind, ("multikey", "multivalue", "multiquery"))
                for value in [a] if kind == "multikey" else a.split(", "):
                    self.assertIn(value.lower(), " ".join(statements).lower())
        self.assertEqual(kinds, {"multikey", "multivalue", "multiquery"})

    def test_dates_side_by_side_are_told_apart(self):
        r, stock, kinds = random.Random(3), Stock("train"), set()
        for _ in range(200):
            name, text, qs = chronicle.text(r, stock, 400)
            plain = " ".join(text.split())
            self.assertTrue(name)
            asked = {}
            for kind, q, a, shown in qs:
                kinds.add(q.split()[0].lower())
                self.assertIn(a, plain)
                self.assertIn(a, shown or a)
                self.assertEqual(asked.setdefault(q, a), a)
        self.assertLessEqual({"when", "what", "who"}, kinds)

    def test_versions_have_titles_and_dates_of_their_own(self):
        r, stock = random.Random(6), Stock("train")
        for _ in range(100):
            pair = chronicle.titles(r, stock, 3)
            self.assertGreaterEqual(len({t for t, _ in pair}), 2)
            self.assertEqual(len({short for _, short in pair}), len(pair))
            for title, short in pair:
                text, qs = chronicle.front(r, stock, title, short)
                for _, q, a, shown in qs:
                    self.assertTrue(title in q or short in q)
                    self.assertIn(a, text)
                    self.assertIn(a, shown or a)

    def test_long_values_are_made_for_training_alone(self):
        words = lambda split: [len(Stock(split).spot(random.Random(i)).split()) for i in range(200)]
        self.assertEqual(sum(n > 6 for n in words("check")), 0)
        self.assertGreater(sum(n > 6 for n in words("train")), 60)
        r, stock = random.Random(7), Stock("train")
        kinds = [facts.Schema(r, stock).value_kind for _ in range(400)]
        self.assertGreater(sum(k in ("phrase", "spot") for k in kinds), 100)

    def test_begun_answers_lead_to_their_answer(self):
        r, stock, forms = random.Random(8), Stock("train"), set()
        for _ in range(200):
            for kind, q, a, shown in facts.group(r, stock)[1]:
                if kind == "absent":
                    continue
                begin = begun.opening(r, kind, q, a, shown)
                self.assertTrue(begin and begin == begin.strip() and len(begin) <= 160, begin)
                self.assertNotIn("provided text", begin)
                forms.add(begin.split()[-1])
        self.assertGreater(len(forms), 20)
        self.assertEqual(begun.opening(random.Random(0), "multikey", "What is the fee of Anna's boat?", "12", None)[:22], "The fee of Anna's boat")

    def test_one_word_makes_a_question_unanswerable(self):
        with tempfile.TemporaryDirectory() as d:
            lex = self.lexicon(d)
            text = "The oldest boat left the town after dinner. The town had a clock."
            for seed in range(20):
                q = natural.strange_word(random.Random(seed), lex, "When did the oldest boat leave?", text)
                self.assertIn(q, (None, "When did the youngest boat leave?"))
            lex.alike = {("N", lex.field("boat")): ["lamp", "barrel", "hammer", "wagon", "kettle", "ladder"]}
            moved, qas = natural.estrange(random.Random(1), lex, text, [("When did the boat leave?", "after dinner")], 1.0)
            other = qas[0][0].split()[-2]
            self.assertNotEqual(other, "boat")
            self.assertIn(other, lex.alike["N", lex.field("boat")])
            self.assertEqual((moved, qas[0][1]), (text.replace("boat", other), "after dinner"))

    def test_keywords_of_a_question(self):
        self.assertEqual(natural.keywords(random.Random(0), "Who was the keeper of the old lighthouse?"), "Who keeper old lighthouse")

    def test_words_of_answers_are_exchanged(self):
        with tempfile.TemporaryDirectory() as d:
            lex = self.lexicon(d)
            lex.alike = {("N", 6): ["boat", "lamp", "barrel", "hammer", "wagon", "kettle"]}
            r, seen = random.Random(1), set()
            for _ in range(50):
                text, qas = natural.exchange_words(r, lex, "The captain sold an old boat in May. The boat was red.", [("What did the captain sell?", "an old boat"), ("Which boat?", None)])
                seen.add(text)
                (q, a), (q2, _) = qas
                self.assertIn(a, text)
                self.assertEqual(text.count(a.split()[-1]), 2)
                self.assertEqual(q2, f"Which {a.split()[-1]}?")
            self.assertGreater(len(seen), 3)

    def test_documents_are_named_as_people_do(self):
        r = random.Random(1)
        self.assertLessEqual({"PEP 8", "pep 8"}, {natural.spoken(r, "pep-0008.rst") for _ in range(60)})
        self.assertLessEqual({"Moby-Dick", "moby-dick"}, {natural.spoken(r, "Moby-Dick") for _ in range(60)})

    def test_rule_made_answers_stand_in_the_sentence(self):
        r = random.Random(1)
        s = "In 1856 the family of Captain Harker moved to Boston with seven horses and two old carriages."
        kinds = set()
        for _ in range(200):
            out = prose_tasks.question(r, s)
            if out:
                kinds.add(out[0].split()[0])
                self.assertIn(out[1], s)
        self.assertGreater(len(kinds), 5)

    def lexicon(self, folder):
        rows = [{"v": {"sold": "sell", "went": "go"}, "n": {"men": "man"}}]
        for word, part, field, same in (("captain", "n", 18, []), ("boat", "n", 6, []), ("harbour", "n", 15, []), ("storm", "n", 19, ["tempest"]), ("tempest", "n", 19, ["storm"]),
                                        ("sell", "v", 40, []), ("go", "v", 38, []), ("repair", "v", 30, ["mend"]), ("mend", "v", 30, ["repair"]), ("old", "a", 0, []),
                                        ("money", "n", 21, []), ("need", "v", 34, []), ("winter", "n", 28, []), ("lamp", "n", 6, [])):
            rows.append([word, part, 20, field, f"what {len(rows)} of these things share", same, "vessel" if word == "boat" else ""])
        path = os.path.join(folder, "wordnet.jsonl")
        with open(path, "w") as f:
            f.write("".join(json.dumps(x) + "\n" for x in rows))
        return Lexicon(path)

    def test_copies_of_a_passage_answer_for_themselves(self):
        r, stock = random.Random(2), Stock("train")
        p = {"name": "Anna Berg", "text": "In the year 1871 old Anna Berg left Paris. Then she took 42 paintings to Rome with the help of Carl.",
             "qas": [{"question": "When did Anna Berg leave?", "answer": "1871"}, {"question": "where did anna berg take her paintings", "answer": "Rome"},
                     {"question": "How many were there?", "answer": "42"}]}
        strange = 0
        for _ in range(100):
            copies = natural.twins(r, stock, p, 2, {})
            texts = [text for _, text, _ in copies]
            self.assertNotEqual(*texts)
            for _, text, qs in copies:
                for kind, q, a, shown, named in qs:
                    self.assertEqual(named, not q.startswith("How many"))
                    if kind == "absent":
                        strange += 1
                        self.assertFalse([w for w in natural.TOKEN.findall(q) if len(w) > 4 and any(w in t for t in texts)])
                    else:
                        self.assertIn(a, text)
                        self.assertIn(a, shown)
        self.assertGreater(strange, 3)
        for _ in range(20):
            near = natural.strange(r, stock, p["qas"][0]["question"], p["text"])
            if near:
                self.assertEqual(sum(w not in p["text"] for w in natural.TOKEN.findall(near)), 2)  # "When" and the new name

    def test_glossary_answers_stand_in_their_entry(self):
        with tempfile.TemporaryDirectory() as d:
            lex = self.lexicon(d)
        r = random.Random(6)
        for _ in range(100):
            text, qs = glossary.text(r, lex, 8)
            self.assertTrue(qs)
            for _, q, a, shown in qs:
                self.assertIn(a, shown)
                self.assertIn(shown, " ".join(text.split()))
                self.assertNotIn(a, q)

    def test_facts_are_asked_in_other_words(self):
        with tempfile.TemporaryDirectory() as d:
            lex = self.lexicon(d)
        r, stock = random.Random(8), Stock("train")
        stock.lexicon = lex
        other = 0
        for _ in range(300):
            s, qs = grammar.event(r, stock)
            if " repaired " in s:
                other += sum("mend" in q for q, _ in qs)
            for q, a in qs:
                self.assertIn(a.lower(), s.lower())
        self.assertGreater(other, 10)

    def test_questions_by_syntax(self):
        with tempfile.TemporaryDirectory() as d:
            lex = self.lexicon(d)
        s = "In the winter the old captain sold seven boats in the harbour because he needed money."
        made = set()
        r = random.Random(4)
        for _ in range(300):
            out = formation.question(r, lex, s)
            if out:
                made.add((out[0].split()[0], out[1]))
                self.assertIn(out[1], s)
                self.assertNotIn(out[1].lower(), out[0].lower())
        for want in (("Who", "the old captain"), ("Why", "he needed money"), ("How", "seven"), ("Where", "in the harbour")):
            self.assertIn(want, made)
        spoken = '"We shall never see that island again before the spring," said Captain Harker, and went below.'
        self.assertIn("Captain Harker", {(formation.question(r, lex, spoken) or "  ")[1] for _ in range(40)})
        self.assertEqual(lex.reword(r, "the storms came while they repaired it", 1.0), "the tempests came while they mended it")
        self.assertFalse(Lexicon(os.path.join(d, "none")))

    def test_replaced_answers_are_in_the_passage(self):
        r, stock = random.Random(1), Stock("train")
        p = {"name": "x", "text": "Anna Berg left Paris in 1871. She took 42 paintings to Rome.",
             "qas": [{"question": "When did Anna Berg leave?", "answer": "1871"}, {"question": "How many paintings?", "answer": "42"},
                     {"question": "What colour?", "answer": None}]}
        for _ in range(200):
            _, text, qs = natural.prepare(r, stock, p)
            for kind, q, a, shown in qs:
                if kind == "natural":
                    self.assertIn(a, shown)
                    self.assertIn(shown, " ".join(text.split()))
                else:
                    self.assertEqual(shown, "")

    def test_evidence_is_the_sentence_that_answers(self):
        text = ("Mr. Berg sold 42 boats in May. The town of Orla bought 42 lamps,  and\nthe harbour master, who had asked for them since the winter of the "
                "great storm, put every single one of them along the old stone pier before the first ships came home. Nothing else was sold.")
        self.assertEqual(evidence.choose(text, "How many boats did Berg sell?", "42"), "Mr. Berg sold 42 boats in May.")
        lamps = evidence.choose(text, "How many lamps were bought for Orla?", "42")
        self.assertTrue(lamps.startswith("The town of Orla bought 42 lamps, and") and len(lamps) <= evidence.MOST)
        late = evidence.choose(text, "When were they put there?", "before the first ships came home")
        self.assertTrue(late.endswith("before the first ships came home.") and len(late) <= evidence.MOST)
        self.assertIsNone(evidence.choose(text, "How many hats?", "43"))

    @unittest.skipUnless(os.path.isdir(DATA), "no data")
    def test_samples_quote_their_documents_before_they_answer(self):
        from data.corpus import Corpus, prepare
        with tempfile.TemporaryDirectory() as d:
            prepare(DATA, "", d, 2, limit=40)
            builder = packs.Builder(Corpus(d), tk.ByteTokenizer())
            shown = direct = empty = stands = 0
            for i in range(80):
                ids, cls, _ = builder.sample(f"evidence/{i}", 8192)
                say = lambda x: " ".join(bytes(int(t) - 7 for t in x if t >= 7).decode(errors="replace").split())
                begin = int(np.argmax(cls == packs.QUESTION))
                text = say(ids[:begin])
                turns = np.split(ids[begin:], np.flatnonzero(ids[begin:] == tk.EOS) + 1)
                for turn in turns[:-1]:
                    turn = turn.tolist()
                    at = turn.index(tk.ASSISTANT)
                    if turn[at + 1] == tk.END_THINK:
                        direct += 1
                        continue
                    self.assertEqual(turn[at + 1], tk.THINK)
                    end = turn.index(tk.END_THINK)
                    quoted, answer = say(turn[at + 2:end]), say(turn[end + 1:-1])
                    shown += 1
                    if answer == T.ABSENT:
                        self.assertEqual(quoted, "")
                        empty += 1
                    else:
                        self.assertTrue(quoted)
                        stands += quoted in text
                self.assertTrue(((cls == packs.EVIDENCE) <= (ids != tk.EOS)).all())
            plain = [i for i in range(300) if b"[file content begin]" not in bytes(int(t) - 7 for t in builder.sample(f"plain/{i}", 1024)[0] if t >= 7)]
            self.assertTrue(1 <= len(plain) <= 30, plain)
            pairs = [p for p in (builder.pair_docs(random.Random(i), 8000) for i in range(12)) if p]
            for pair in pairs:
                for doc, qs in pair:
                    text = " ".join(builder.tok.decode(doc.pieces[0].tolist()).split())
                    self.assertTrue(qs and all(evidence.clean(a) in text for _, _, a, _ in qs))
            self.assertGreater(len(pairs), 6)
            self.assertGreater(empty, 5)
            self.assertGreater(stands, 0.85 * (shown - empty))  # the others put several sentences together
            self.assertTrue(0.35 * direct < shown < 1.2 * direct)

    def test_positions_rise_and_stay_in_range(self):
        r = random.Random(3)
        for _ in range(50):
            pos = packs.positions(r, [2, 100, 400], 512)
            self.assertTrue((np.diff(pos) >= 1).all() and pos[0] == 0 and pos[-1] < packs.MAX_POSITION)


def mean_of_two(rank, port, folder):
    """One of two processes whose weights differ by 2: both end with the mean."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo")
    import train
    trainer = train.Trainer.__new__(train.Trainer)
    trainer.world, trainer.model = 2, toy_model()
    before = trainer.model.norm.weight.detach().clone()
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.add_(2.0 * rank)
    trainer.average_weights()
    torch.save((trainer.model.norm.weight - before).max(), os.path.join(folder, str(rank)))


class Steps(unittest.TestCase):
    def test_ranks_meet_at_their_mean(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        with tempfile.TemporaryDirectory() as d:
            torch.multiprocessing.spawn(mean_of_two, (port, d), nprocs=2)
            for rank in range(2):
                self.assertAlmostEqual(float(torch.load(os.path.join(d, str(rank)))), 1.0, places=5)

    def test_orthogonalise(self):
        x = muon.orthogonalise(torch.randn(2, 24, 60))
        s = torch.linalg.svdvals(x)
        self.assertGreater(s.min(), 0.5)
        self.assertLess(s.max(), 1.4)

    @unittest.skipUnless(os.path.isdir(DATA), "no data")
    def test_every_stage_at_toy_size(self):
        from data.corpus import prepare
        with tempfile.TemporaryDirectory() as d:
            prepare(DATA, "", os.path.join(d, "corpus"), 2, limit=60)
            subprocess.run([sys.executable, os.path.join(HERE, "train.py"), "--toy", "--corpus", os.path.join(d, "corpus"),
                            "--into", os.path.join(d, "run")], check=True, stdout=subprocess.DEVNULL)
            rows = [json.loads(line) for line in open(os.path.join(d, "run", "log.jsonl"))]
            self.assertEqual([r["after"] for r in rows if "after" in r], ["dense-512", "warm", "sparse"])
            self.assertEqual(checkpoint.load(os.path.join(d, "run", "compact"), toy_model())[1]["stage"], 3)


if __name__ == "__main__":
    unittest.main()
