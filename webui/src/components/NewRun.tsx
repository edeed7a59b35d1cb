// NewRun.tsx - what to find out, in words for people who have not heard of any benchmark; what it will take; start.
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { count, percent, plural, seconds } from '../format';
import { start } from '../runs';
import { documents, sentenceOf, showRunPage, status } from '../state';
import type { QuestionFile, RunEstimate, RunRequest } from '../types';

type Kind = 'needle' | 'ruler' | 'qa' | 'recall' | 'compare';

const kinds: [Kind, string, string][] = [
  ['needle', 'Does it find one sentence in a long text?', 'Hides a sentence at several places in texts of several lengths and asks for it: a map of length and depth.'],
  ['ruler', 'Does it manage harder searches? (RULER)', 'The 13 tasks that most published models are measured with: several hidden facts, chains of variables, most frequent words.'],
  ['qa', 'Does it answer my own questions?', 'Asks the questions of a file of yours, each passage among the others, and says how answers depend on where the source stands.'],
  ['recall', 'Does it look at the right place?', 'Not whether the answer is right, but whether its source is among the places that the model selects; beside a keyword search.'],
  ['compare', 'Is anything lost by selecting?', 'The same questions with attention to everything (dense) and to the best places only (sparse): answers, time and memory.'],
];

const tasks: [string, string][] = [
  ['niah_single_1', 'one fact, in noise'],
  ['niah_single_2', 'one number, in essays'],
  ['niah_single_3', 'one long code, in essays'],
  ['niah_multikey_1', 'one fact among four alike'],
  ['niah_multikey_2', 'one fact, everything else alike'],
  ['niah_multikey_3', 'one code, everything else alike'],
  ['niah_multivalue', 'four values of one thing'],
  ['niah_multiquery', 'four things at once'],
  ['vt', 'a chain of variables'],
  ['cwe', 'the most common words'],
  ['fwe', 'the most frequent invented words'],
  ['qa_1', 'questions of your file'],
  ['qa_2', 'questions of your file, over several passages'],
];

const LENGTHS = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
const lengthName = (n: number) => `${n / 1024}K`;

interface Form {
  kind: Kind;
  text: string;
  lengths: number[];
  depths: number;
  samples: number;
  together: boolean;
  reworded: boolean;
  own: boolean;
  needle: string;
  question: string;
  answer: string;
  tasks: string[];
  published: boolean;
  source: string;
  limit: number;
  ks: string;
  seed: number;
  dense: boolean;
  asAsk: boolean;
  thinking: boolean;
}

/* Compared with a reference, or begun for the model, an answer has no thought before it. */
const mayThink = (f: Form) => f.kind !== 'compare' && !(f.kind === 'ruler' && f.published);
const asAsk = (f: Form) => f.kind === 'qa' && f.asAsk;

/* What the form says, as the server takes it; a sentence where that cannot be. */
function requestOf(f: Form, file: QuestionFile | null, able: boolean): RunRequest | string {
  const wantsFile = f.kind === 'qa' || (f.kind === 'ruler' && f.tasks.some((t) => t.startsWith('qa_')));
  if (!f.lengths.length && !asAsk(f)) return 'Choose a length.';
  if (wantsFile && !file) return 'Choose a file of questions.';
  const r: RunRequest = { kind: f.kind, samples: f.samples, seed: f.seed };
  if (asAsk(f)) r.as_ask = true;
  else Object.assign(r, { text: f.text, lengths: f.lengths });
  if (mayThink(f) && able) r.thinking = f.thinking;
  const needles = f.kind === 'needle' || ((f.kind === 'recall' || f.kind === 'compare') && !file);
  if (file && f.kind !== 'needle') {
    r.questions = file.id;
    if (f.source) r.source = f.source;
    if (f.limit) r.limit = f.limit;
  }
  if (needles) {
    r.depths = f.depths;
    r.together = f.together && !f.own;
    if (f.reworded && r.together) r.reworded = true;
    if (f.own) {
      if (!f.needle.trim() || !f.question.trim() || !f.answer.trim()) return 'Write the sentence, the question and the answer.';
      r.needles = [{ needle: f.needle.trim(), question: f.question.trim(), answer: f.answer.trim() }];
    }
  }
  if (f.kind === 'ruler') {
    if (!f.tasks.length) return 'Choose a task.';
    r.tasks = f.tasks;
    if (f.published) r.published = true;
    else r.together = f.together;
  }
  if (f.kind === 'compare') {
    const ks = f.ks.split(/[\s,;]+/).filter(Boolean).map(Number);
    if (ks.some((k) => !Number.isInteger(k) || k < 1)) return 'The numbers of places are whole numbers, with commas between them.';
    if (ks.length) r.ks = [...new Set(ks)];
  } else if (f.dense) r.dense = true;
  return r;
}

function Check({ on, set, label, note }: { on: boolean; set: (v: boolean) => void; label: string; note?: string }) {
  return (
    <label class="check tall">
      <input type="checkbox" checked={on} onChange={(e) => set(e.currentTarget.checked)} />
      <span>{label}{note && <span class="muted small hint">{note}</span>}</span>
    </label>
  );
}

interface NumberProps {
  id: string;
  label: string;
  note?: string;
  value: number;
  low: number;
  high: number;
  set: (v: number) => void;
}

function Whole({ id, label, note, value, low, high, set }: NumberProps) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id} type="number" min={low} max={high} step={1} value={value} aria-describedby={note ? `${id}-note` : undefined}
        onInput={(e) => {
          const v = e.currentTarget.valueAsNumber;
          if (Number.isFinite(v)) set(Math.max(low, Math.min(high, Math.round(v))));
        }}
      />
      {note && <span class="muted small" id={`${id}-note`}>{note}</span>}
    </div>
  );
}

function Line({ id, label, value, set }: { id: string; label: string; value: string; set: (v: string) => void }) {
  return (
    <div class="field wide">
      <label for={id}>{label}</label>
      <input id={id} type="text" maxLength={319} value={value} onInput={(e) => set(e.currentTarget.value)} />
    </div>
  );
}

interface FileProps {
  file: QuestionFile | null;
  taken: (f: QuestionFile | null) => void;
  note: string;
}

function Questions({ file, taken, note }: FileProps) {
  const [share, setShare] = useState(-1);
  const [why, setWhy] = useState('');
  const send = async (chosen: File | undefined) => {
    if (!chosen) return;
    taken(null);
    setWhy('');
    setShare(0);
    try {
      taken(await api.uploadQuestions(chosen, setShare, new AbortController().signal));
    } catch (error) {
      setWhy(sentenceOf(error));
    }
    setShare(-1);
  };
  return (
    <div class="field wide">
      <label for="run-questions">File of questions{note}</label>
      <input
        id="run-questions" type="file" accept=".json,.jsonl,application/json" aria-describedby="run-questions-note"
        onChange={(e) => void send(e.currentTarget.files?.[0])}
      />
      <span class="muted small" id="run-questions-note">
        One JSON object a line, {'{"name", "text", "qas": [{"question", "answers": []}]}'} (no answers: the passage does not say), or a
        file in SQuAD’s form. It is kept with the run and erased with it.
      </span>
      {share >= 0 && <progress value={share} max={1} aria-label="Sending the file" />}
      {why && <p class="failure" role="alert">{why}</p>}
      {file && <p class="small" role="status">{file.name}: {plural(file.passages, 'passage')}, {plural(file.questions, 'question')}.</p>}
    </div>
  );
}

function estimateText(e: RunEstimate): string {
  const what = `${plural(e.cells, 'question')}, ${plural(e.tokens, 'token')} to read`;
  if (e.seconds === null || e.rate === null) return `${what}. How long that takes is known after the first run or the first document.`;
  return `${what} at ${count(e.rate)} a second: about ${seconds(e.seconds)}.`;
}

export function NewRun() {
  const capacity = status.value?.context.capacity ?? 131072;
  const selected = status.value?.context.selected;
  const lengths = LENGTHS.filter((n) => n <= capacity);
  const [f, setForm] = useState<Form>({
    kind: 'needle', text: 'generated', lengths: lengths.slice(0, 4), depths: 11, samples: 1, together: true, reworded: false,
    own: false, needle: '', question: '', answer: '', tasks: tasks.slice(0, 11).map((t) => t[0]), published: false, source: '',
    limit: 0, ks: '', seed: 42, dense: false, asAsk: false, thinking: status.value?.thinking?.usual ?? false,
  });
  const [file, setFile] = useState<QuestionFile | null>(null);
  const [estimate, setEstimate] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const title = useRef<HTMLHeadingElement>(null);
  const set = (with_: Partial<Form>) => setForm((old) => ({ ...old, ...with_ }));
  const able = status.value?.thinking?.able === true;
  const request = requestOf(f, file, able);
  const key = JSON.stringify(request);
  useEffect(() => title.current?.focus({ preventScroll: true }), []);
  // What it will take is asked a moment after the last change.
  useEffect(() => {
    setProblem('');
    if (typeof request === 'string') {
      setEstimate(request);
      return;
    }
    const stop = new AbortController();
    const timer = setTimeout(() => {
      api.estimateRun(request, stop.signal).then(
        (e) => setEstimate(estimateText(e)),
        (error) => !stop.signal.aborted && setEstimate(sentenceOf(error)),
      );
    }, 350);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key]);
  const needles = f.kind === 'needle' || ((f.kind === 'recall' || f.kind === 'compare') && !file);
  const running = status.value?.run?.active === true;
  return (
    <form
      class="new-run exchange"
      aria-labelledby="new-run-title"
      onSubmit={async (e) => {
        e.preventDefault();
        if (typeof request === 'string' || busy) return;
        setBusy(true);
        setProblem(await start(request));
        setBusy(false);
      }}
    >
      <h2 id="new-run-title" class="question" tabIndex={-1} ref={title}>What do you want to find out?</h2>
      <fieldset class="kinds">
        <legend class="unseen">Kind of run</legend>
        {kinds.map(([kind, name, note]) => (
          <label key={kind} class={f.kind === kind ? 'kind chosen' : 'kind'}>
            <input
              type="radio" name="kind" value={kind} checked={f.kind === kind}
              onChange={() => set({ kind, samples: kind === 'ruler' ? 3 : 1 })}
            />
            <span><strong>{name}</strong><span class="muted small hint">{note}</span></span>
          </label>
        ))}
      </fieldset>

      {f.kind !== 'needle' && (
        <Questions
          file={file} taken={(x) => { setFile(x); set({ source: '' }); }}
          note={f.kind === 'qa' ? '' : f.kind === 'ruler' ? ' (for the tasks qa_1 and qa_2 alone)' : ' (or none: hidden sentences are asked for)'}
        />
      )}

      {f.kind === 'qa' && (
        <Check
          on={f.asAsk} set={(on) => set({ asAsk: on })} label="Ask as the page does"
          note="The passages become documents of a library of their own. Each question is asked twice: of the passages that match it best, as usual, and of everything at once. Lengths and surrounding text play no part."
        />
      )}

      {!asAsk(f) && <fieldset>
        <legend>How long are the texts?</legend>
        <p class="muted small">In tokens: about three quarters of a word each, less for a small model. The longest count most in time.</p>
        <div class="choices">
          {lengths.map((n) => (
            <label class="check" key={n}>
              <input
                type="checkbox" checked={f.lengths.includes(n)}
                onChange={(e) =>
                  set({ lengths: LENGTHS.filter((x) => (x === n ? e.currentTarget.checked : f.lengths.includes(x))) })}
              />
              <span>{lengthName(n)}</span>
            </label>
          ))}
        </div>
      </fieldset>}

      <div class="fields">
        {!asAsk(f) && <div class="field">
          <label for="run-text">Text around the answer</label>
          <select id="run-text" value={f.text} onChange={(e) => set({ text: e.currentTarget.value })}>
            <option value="generated">Plain sentences, made up</option>
            <option value="documents" disabled={documents.value.length === 0}>My documents</option>
            <option value="licences">Licence texts of this machine</option>
          </select>
        </div>}
        {needles && (
          <Whole
            id="run-depths" label="Places in the text" value={f.depths} low={1} high={100}
            set={(depths) => set({ depths })}
          />
        )}
        {f.kind !== 'qa' && !(file && f.kind !== 'ruler') && (
          <Whole
            id="run-samples" label={f.kind === 'ruler' ? 'Questions of each task' : 'Texts of each length'}
            note="More make the figures surer, and cost as much more time." value={f.samples} low={1} high={500}
            set={(samples) => set({ samples })}
          />
        )}
        {file && (
          <Whole
            id="run-limit" label={asAsk(f) ? 'Questions at most' : 'Questions of each length at most'} note="0 asks all of the file." value={f.limit} low={0}
            high={100000} set={(limit) => set({ limit })}
          />
        )}
        {file && file.sources.length > 1 && (
          <div class="field">
            <label for="run-source">Passages of</label>
            <select id="run-source" value={f.source} onChange={(e) => set({ source: e.currentTarget.value })}>
              <option value="">all sources</option>
              {file.sources.map((s) => <option key={s} value={s}>{s}</option>)}
            </select>
          </div>
        )}
        {f.kind === 'compare' && (
          <div class="field">
            <label for="run-ks">Numbers of places to select</label>
            <input
              id="run-ks" type="text" inputMode="numeric" value={f.ks} aria-describedby="run-ks-note"
              placeholder={selected ? `${selected}, ${Math.max(1, Math.floor(selected / 4))}` : '128, 512'}
              onInput={(e) => set({ ks: e.currentTarget.value })}
            />
            <span class="muted small" id="run-ks-note">
              {selected ? `The model selects ${count(selected)} by itself, which is the most. ` : ''}Each is run beside dense.
            </span>
          </div>
        )}
      </div>

      {needles && (
        <div class="checks">
          {!f.own && (
            <Check
              on={f.together} set={(together) => set({ together })} label="All places in one text"
              note="Each with a sentence of its own, so that a length is read once. Without it the sentence is the classic one, and each place is a text of its own."
            />
          )}
          {!f.own && f.together && (
            <Check
              on={f.reworded} set={(reworded) => set({ reworded })} label="Ask in other words than the hidden sentence’s"
              note="Much harder: the same words do not help."
            />
          )}
          {f.kind === 'needle' && (
            <Check on={f.own} set={(own) => set({ own })} label="Hide a sentence of my own" />
          )}
          {f.own && f.kind === 'needle' && (
            <div class="fields">
              <Line id="run-needle" label="The sentence" value={f.needle} set={(needle) => set({ needle })} />
              <Line id="run-own-question" label="The question" value={f.question} set={(question) => set({ question })} />
              <Line id="run-answer" label="The right answer, as it stands in the sentence" value={f.answer} set={(answer) => set({ answer })} />
            </div>
          )}
        </div>
      )}

      {f.kind === 'ruler' && (
        <fieldset>
          <legend>Tasks</legend>
          <div class="tasks">
            {tasks.map(([name, note]) => {
              const off = name.startsWith('qa_') && !file;
              return (
                <label class="check" key={name}>
                  <input
                    type="checkbox" disabled={off} checked={f.tasks.includes(name) && !off}
                    onChange={(e) =>
                      set({ tasks: tasks.map((t) => t[0]).filter((t) => (t === name ? e.currentTarget.checked : f.tasks.includes(t))) })}
                  />
                  <span><code>{name}</code> <span class="muted small">{note}{off && ' (choose it above)'}</span></span>
                </label>
              );
            })}
          </div>
          <Check
            on={f.published} set={(published) => set({ published })} label="Prompts exactly as published"
            note="For figures to stand beside others’: with the beginning of the answer and the worked examples. Slower: no text is shared."
          />
        </fieldset>
      )}

      {able && mayThink(f) && (
        <Check
          on={f.thinking} set={(thinking) => set({ thinking })} label="Think first"
          note="The model first quotes the sentence that it answers from, then answers. The quote is kept with each answer."
        />
      )}

      <details>
        <summary>More</summary>
        <div class="fields">
          <Whole
            id="run-seed" label="Seed" note="The same seed gives the same run, byte for byte." value={f.seed} low={0}
            high={2147483647} set={(seed) => set({ seed })}
          />
        </div>
        {f.kind !== 'compare' && (
          <Check
            on={f.dense} set={(dense) => set({ dense })} label="Attend to everything (dense)"
            note="As models without an indexer do: many times as slow on long texts."
          />
        )}
      </details>

      <p class="estimate" role="status"><strong>{estimate || 'Working out what it takes'}</strong></p>
      {problem && <p class="failure" role="alert">{problem}</p>}
      {running && <p class="caution">A run is under way ({percent((status.value?.run?.cells ?? 0) / (status.value?.run?.all || 1))}): one at a time.</p>}
      <div class="actions">
        <button type="submit" class="primary" disabled={typeof request === 'string' || busy || running}>Start the run</button>
        <button type="button" onClick={() => showRunPage(null)}>Cancel</button>
      </div>
    </form>
  );
}
