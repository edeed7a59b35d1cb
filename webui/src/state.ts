// state.ts - what the page knows, and everything that changes it. The server owns documents, jobs and answers;
// the page polls them, so that a reload, a second tab or the command line all show the same.
import { batch, computed, signal } from '@preact/signals';
import * as api from './api';
import { ApiError } from './api';
import { capital, receipt } from './format';
import { ocrAsked, switchOcr } from './ocr';
import { lineOf } from './thread';
import type { Answer, Job, Packs, PharosDocument, Progress, Reading, Run, RunDiff, Status } from './types';

export const status = signal<Status | null>(null);
export const documents = signal<PharosDocument[]>([]);
export const jobs = signal<Job[]>([]);
export const reading = signal<Reading | null>(null);
export const packs = signal<Packs | null>(null);
export const answers = signal<Answer[]>([]);
export const runs = signal<Run[]>([]);
export const loaded = signal(false);
/** Why the server could not be asked; '' when it could. */
export const offline = signal('');
export const tokenWanted = signal(false);
/** A token may be for asking only; then nothing can be added or erased with it. */
export const mayManage = computed(() => status.value?.role !== 'ask');

/* ---- what stands where ---- */

export type View = 'ask' | 'documents' | 'questions' | 'runs';
export const view = signal<View>('ask');
export const side = signal<Exclude<View, 'ask'>>('documents');

export function show(v: View): void {
  view.value = v;
  if (v !== 'ask') side.value = v;
  // Other tabs, other people and the command line ask too.
  if (v === 'questions' || v === 'runs') void refreshAnswers();
}

/* ---- notices: what happened, until they are put away ---- */

export interface Notice {
  id: number;
  kind: 'done' | 'problem';
  text: string;
}
let lastNotice = 0;
export const notices = signal<Notice[]>([]);

export function notify(kind: Notice['kind'], text: string): void {
  notices.value = [...notices.value.slice(-3), { id: ++lastNotice, kind, text }];
}
export function dismissNotice(id: number): void {
  notices.value = notices.value.filter((n) => n.id !== id);
}
/** What a screen reader is told, politely. */
export const announcement = signal('');

/* What to do about it, where the server's own sentence does not say. */
function advice(error: unknown): string {
  if (!(error instanceof ApiError)) return '';
  if (error.status === 0 && error.code === 'failed') return ' Is `pharos serve` still running? This page goes on by itself when it is.';
  if (error.code === 'interrupted') return ' What was read so far is kept: send the question again.';
  if (error.code === 'busy' || error.status === 429 || error.status === 503) return ' Try again in a moment.';
  if (error.status === 507) return ' Make room on the disk that holds the library, then try again.';
  return '';
}

export function sentenceOf(error: unknown): string {
  const text = capital(error instanceof Error ? error.message : String(error));
  const more = advice(error);
  return more ? text.replace(/[.!?]?$/, '.') + more : text;
}

/* ---- asking the server how things are ---- */

const BUSY = 1000;
const IDLE = 5000;
let timer = 0;
let running = false;
let again = false;

const busy = computed(
  () =>
    status.value?.state === 'loading' || status.value?.run?.active || reading.value !== null || uploads.value.some((u) => !u.error) ||
    jobs.value.some((j) => j.state === 'queued' || j.state === 'fetching' || j.state === 'reading') ||
    documents.value.some((d) => d.state !== 'ready'),
);

async function load(): Promise<void> {
  const [s, d, j] = await Promise.all([api.getStatus(), api.getDocuments(), api.getJobs()]);
  // Packs belong to a model: until it is there the server has none to tell of.
  const p = s.state === 'ready' ? await api.getPacks().catch(() => null) : null;
  batch(() => {
    status.value = s;
    documents.value = d;
    jobs.value = j.jobs;
    reading.value = j.reading ?? s.reading ?? null;
    if (p) packs.value = p;
    loaded.value = true;
    tokenWanted.value = false;
  });
  if (!offline.value) return;
  offline.value = '';
  // What could not be sent while the server was away is sent now.
  for (const u of uploads.value) if (u.lost) retryUpload(u.key);
  void refreshAnswers();
}

/* Other tabs of this browser hear at once of what was done here. */
const tabs = new BroadcastChannel('pharos');
tabs.onmessage = () => {
  void refresh();
  void refreshAnswers();
};
const tellTabs = () => tabs.postMessage('changed');

/* The server reads by itself what was added. Where a document waits although nothing is under way (another process
 * held the store just then), it is asked to, less and less often. */
let idleTurns = 0;
let patience = 3;

function nudge(): void {
  const s = status.value;
  const waits = documents.value.some((d) => d.state === 'waiting' || d.state === 'packing');
  const still = s?.state === 'ready' && !s.queue.busy && !s.queue.jobs && !reading.value;
  idleTurns = waits && still ? idleTurns + 1 : 0;
  if (!waits) patience = 3;
  if (idleTurns < patience || !mayManage.value) return;
  idleTurns = 0;
  patience = Math.min(2 * patience, 120);
  api.readPacks().catch(() => undefined);
}

export async function readAgain(): Promise<void> {
  try {
    await api.readPacks();
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
  await refresh();
}

/** Asks now, then again after a while: soon while something is under way. */
export async function refresh(): Promise<void> {
  if (running) {
    again = true;
    return;
  }
  running = true;
  window.clearTimeout(timer);
  try {
    do {
      again = false;
      await load();
    } while (again);
    nudge();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) tokenWanted.value = true;
    else offline.value = error instanceof ApiError && error.status === 503 ? 'The server is stopping' : 'Pharos cannot be reached';
  }
  running = false;
  const pause = offline.value || busy.value ? BUSY * (offline.value ? 3 : 1) : IDLE;
  timer = window.setTimeout(refresh, document.hidden ? Math.max(pause, 5000) : pause);
}

export async function refreshAnswers(): Promise<void> {
  try {
    const [a, r] = await Promise.all([api.getAnswers(), api.getRuns().catch(() => [])]);
    answers.value = a;
    runs.value = r;
  } catch (error) {
    // Whether the server is there at all is told at the top of the page.
    const away = error instanceof ApiError && [0, 401, 503].includes(error.status);
    if (!away) notify('problem', sentenceOf(error));
  }
}

export async function start(): Promise<void> {
  document.addEventListener('visibilitychange', () => !document.hidden && void refresh());
  window.addEventListener('hashchange', () => void openFromHash());
  await refresh();
  await refreshAnswers();
  await openFromHash();
}

export async function useToken(token: string): Promise<void> {
  api.setToken(token);
  await refresh();
  if (!tokenWanted.value) await refreshAnswers();
}

/* ---- uploads: what this tab is sending ---- */

export interface Upload {
  key: number;
  name: string;
  file: File;
  share: number; /* -1 = waits for its turn */
  error: string;
  lost: boolean; /* the server was away: it is sent again when that is back */
  stop: AbortController;
}
export const uploads = signal<Upload[]>([]);
/* Files that this tab has sent, by job, so that a failed one can be tried again without choosing it anew. */
const sent = new Map<number, File>();
const AT_ONCE = 2;
let lastUpload = 0;

function change(key: number, with_: Partial<Upload>): void {
  uploads.value = uploads.value.map((u) => (u.key === key ? { ...u, ...with_ } : u));
}

export function addFiles(files: { file: File; name: string }[]): void {
  if (!files.length || !mayManage.value) return;
  const fresh = files.map(({ file, name }) => ({
    key: ++lastUpload, name, file, share: -1, error: '', lost: false, stop: new AbortController(),
  }));
  uploads.value = [...uploads.value, ...fresh];
  show('documents');
  pump();
}

function pump(): void {
  const active = uploads.value.filter((u) => u.share >= 0 && !u.error).length;
  const next = uploads.value.filter((u) => u.share < 0 && !u.error).slice(0, Math.max(0, AT_ONCE - active));
  for (const u of next) void sendOne(u);
}

async function sendOne(u: Upload): Promise<void> {
  change(u.key, { share: 0 });
  try {
    const job = await api.upload(u.file, u.name, ocrAsked(), (share) => change(u.key, { share }), u.stop.signal);
    sent.set(job.id, u.file);
    tellTabs();
    await refresh();
    uploads.value = uploads.value.filter((x) => x.key !== u.key);
  } catch (error) {
    const wait = error instanceof ApiError ? error.retryAfter : 0;
    if (error instanceof ApiError && error.code === 'interrupted') removeUpload(u.key);
    else if (wait && (error as ApiError).status === 503) {
      // Told to come back later: stays in the line.
      await new Promise((resolve) => setTimeout(resolve, Math.min(wait, 30) * 1000));
      change(u.key, { share: -1 });
    } else change(u.key, { error: sentenceOf(error), lost: error instanceof ApiError && error.status === 0 });
  }
  pump();
}

export function removeUpload(key: number): void {
  uploads.value.find((u) => u.key === key)?.stop.abort();
  uploads.value = uploads.value.filter((u) => u.key !== key);
}

export function retryUpload(key: number): void {
  change(key, { share: -1, error: '', lost: false });
  pump();
}

export const canRetry = (j: Job) => j.kind === 'url' || sent.has(j.id);

export async function retryJob(j: Job): Promise<void> {
  const file = sent.get(j.id);
  await dismiss(j);
  if (j.kind === 'url') await addAddress(j.name);
  else if (file) addFiles([{ file, name: j.name }]);
}

/** A job that found pictures alone is tried again, and they are read from here on. */
export async function retryWithOcr(j: Job): Promise<void> {
  switchOcr(true);
  await retryJob(j);
}

export async function dismiss(j: Job): Promise<void> {
  try {
    await api.dismissJob(j.id);
    sent.delete(j.id);
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
  await refresh();
}

export async function addAddress(url: string): Promise<boolean> {
  try {
    await api.addUrl(url, ocrAsked());
  } catch (error) {
    notify('problem', sentenceOf(error));
    return false;
  }
  await refresh();
  return true;
}

export async function eraseDocument(d: PharosDocument): Promise<void> {
  try {
    const r = await api.deleteDocument(d.id);
    tellTabs();
    documents.value = documents.value.filter((x) => x.id !== d.id);
    notify('done', `Erased ${d.name}: ${receipt(r)}.`);
    if (panel.value?.document === d.id) panel.value = null;
    excluded.value = new Set([...excluded.value].filter((id) => id !== d.id));
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
  await refresh();
  await refreshAnswers();
  closeErased();
}

/* ---- sources ---- */

const EXCLUDED = 'pharos.excluded';

function storedExclusions(): Set<number> {
  try {
    return new Set((JSON.parse(localStorage.getItem(EXCLUDED) ?? '[]') as unknown[]).filter(Number.isInteger) as number[]);
  } catch {
    return new Set();
  }
}
/** Documents that are not asked. What is new is asked, so the ones left out are what is kept. */
export const excluded = signal<Set<number>>(storedExclusions());
export const sources = computed(() => documents.value.filter((d) => !excluded.value.has(d.id)));

export function include(ids: number[], on: boolean): void {
  const next = new Set(excluded.value);
  for (const id of ids) {
    if (on) next.delete(id);
    else next.add(id);
  }
  excluded.value = next;
  localStorage.setItem(EXCLUDED, JSON.stringify([...next]));
}

/* ---- how questions are answered ---- */

const WAYS = 'pharos.ways';

export interface Ways {
  thinking: boolean | null; /* null: as the model has it */
  whole: boolean;
}

function storedWays(): Ways {
  try {
    const w = JSON.parse(localStorage.getItem(WAYS) ?? '{}') as Partial<Ways>;
    return { thinking: typeof w.thinking === 'boolean' ? w.thinking : null, whole: w.whole === true };
  } catch {
    return { thinking: null, whole: false };
  }
}
export const ways = signal<Ways>(storedWays());
ways.subscribe((w) => localStorage.setItem(WAYS, JSON.stringify(w)));
/** Whether the next answer begins with a thought. */
export const thinks = computed(() => {
  const model = status.value?.thinking;
  return model?.able === true && (ways.value.thinking ?? model.usual);
});
/** A thought is folded until somebody opens one; then the next ones are open too. */
export const thoughtOpen = signal(false);

function askOptions(with_: api.AskOptions): api.AskOptions {
  const options: api.AskOptions = {};
  if (sources.value.length !== documents.value.length) options.documents = sources.value.map((d) => d.id);
  if (ways.value.thinking !== null && status.value?.thinking?.able) options.thinking = ways.value.thinking;
  if (ways.value.whole) options.whole = true;
  return { ...options, ...with_ };
}

/* ---- asking ---- */

export interface Asking {
  question: string;
  thought: string;
  text: string;
  place: number; /* in the queue; 0 = at work */
  progress: Progress | null;
  note: string;
}
export const asking = signal<Asking | null>(null);
/** The answer that is shown, and what it goes on from, oldest first. The next question follows all of them. */
export const current = signal<Answer | null>(null);
export const earlier = signal<Answer[]>([]);
/** What the next question follows; empty: it stands alone. An answer that is not kept cannot be followed. */
export const followed = computed(() => (!current.value ? earlier.value : current.value.id ? [...earlier.value, current.value] : []));
export const problem = signal<{ question: string; text: string; thought: string; partial: string } | null>(null);

const DRAFT = 'pharos.draft';
export const draft = signal(sessionStorage.getItem(DRAFT) ?? '');
draft.subscribe((text) => sessionStorage.setItem(DRAFT, text));

let stopper: AbortController | null = null;

export function stop(): void {
  stopper?.abort();
}

/* A pack may be in use for a moment (the command line reads it, a file is being opened): then the question is asked
 * again, as long as not a word of the answer has come. */
async function askPatiently(
  question: string, options: api.AskOptions, on: api.AskEvents, signal: AbortSignal,
): Promise<Answer> {
  let written = false;
  const heard: api.AskEvents = {
    ...on,
    token: (text) => {
      written = true;
      on.token(text);
    },
  };
  for (let attempt = 1; ; attempt++) {
    try {
      return await api.ask(question, options, heard, signal);
    } catch (error) {
      const inUse = error instanceof ApiError && error.status === 200 && error.code === 'busy';
      if (!inUse || written || attempt === 4 || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

/** `with_` stands before what the person has chosen for all questions. `instead`: the question that is shown is asked again,
 * and does not follow its own answer. */
export async function ask(question: string, with_: api.AskOptions = {}, instead = false): Promise<void> {
  question = question.trim();
  if (!question || asking.value) return;
  const before = instead ? earlier.value : followed.value;
  const follows = before.at(-1)?.id;
  const controller = (stopper = new AbortController());
  const fromBox = question === draft.value.trim();
  batch(() => {
    asking.value = { question, thought: '', text: '', place: 0, progress: null, note: '' };
    earlier.value = before;
    current.value = null;
    runPage.value = null;
    problem.value = null;
    panel.value = null;
    announcement.value = 'The question was sent.';
  });
  // Pieces may come faster than the screen is drawn: they are put together once a frame.
  let pending = '';
  let frame = 0;
  const update = (with_: Partial<Asking>) => {
    if (asking.value && stopper === controller) asking.value = { ...asking.value, ...with_ };
  };
  const flush = () => {
    frame = 0;
    if (pending && asking.value) update({ text: asking.value.text + pending });
    pending = '';
  };
  let said = 0;
  try {
    const answer = await askPatiently(
      question,
      askOptions({ ...with_, ...(follows && { follows }) }),
      {
        queue: (place) => update({ place }),
        progress: (p) => {
          update({ progress: p, place: 0 });
          const now = Date.now();
          if (p.phase === 'reading' && p.total && now - said > 5000) {
            said = now;
            announcement.value = `Reading the documents: ${Math.floor((100 * p.done) / p.total)} percent.`;
          }
        },
        thought: (thought) => update({ thought }),
        token: (text) => {
          pending += text;
          if (!frame) frame = requestAnimationFrame(flush);
        },
        restart: (reason) => {
          pending = '';
          update({ thought: '', text: '', progress: null, note: reason });
        },
      },
      controller.signal,
    );
    batch(() => {
      current.value = answer;
      asking.value = null;
      if (fromBox) draft.value = '';
      announcement.value = answer.found
        ? `Answer: ${answer.answer}. ${answer.citations.length} citations.`
        : 'Not in the documents.';
    });
    if (answer.id) history.replaceState(null, '', `#/answers/${answer.id}`);
    tellTabs();
  } catch (error) {
    flush();
    const now = asking.value as Asking | null; // flush has changed it
    batch(() => {
      asking.value = null;
      problem.value = {
        question,
        thought: now?.thought ?? '',
        partial: now?.text ?? '',
        text: controller.signal.aborted ? 'Stopped. What was read so far is kept.' : sentenceOf(error),
      };
      announcement.value = problem.value.text;
    });
  } finally {
    cancelAnimationFrame(frame);
    stopper = null;
  }
  void refresh();
  void refreshAnswers();
}

/* ---- answers given before ---- */

/** The one that was opened: it comes into view. */
export const opened = signal<{ id: number } | null>(null);

/** Shows an answer in its conversation; null: none, and the next question stands alone. */
export function openAnswer(a: Answer | null): void {
  if (asking.value) stop();
  const line = a ? lineOf(a, answers.value) : [];
  batch(() => {
    current.value = line.pop() ?? null;
    earlier.value = line;
    opened.value = a;
    runPage.value = null;
    problem.value = null;
    panel.value = null;
    view.value = 'ask';
  });
  history.replaceState(null, '', a?.id ? `#/answers/${a.id}` : location.pathname);
  void completeLine();
}

/* What the list of answers does not reach back to. */
async function completeLine(): Promise<void> {
  for (let first: Answer | null; (first = earlier.value[0] ?? current.value) && first.follows; ) {
    const before = await api.getAnswer(first.follows).catch(() => null);
    if (!before || (earlier.value[0] ?? current.value) !== first) return;
    earlier.value = [before, ...earlier.value];
    opened.value = opened.value && { id: opened.value.id }; // it has been pushed down
  }
}

export function newQuestion(): void {
  if (asking.value) return;
  openAnswer(null);
  announcement.value = 'A new question: it follows none.';
}

/* What was erased is not shown any longer; what it went on from still is. */
function closeErased(): void {
  const list = answers.value;
  // A list that is full may have ended before it.
  const least = list.length < 100 ? 0 : list[list.length - 1].id;
  const line = current.value ? [...earlier.value, current.value] : earlier.value;
  const gone = line.findIndex((a) => a.id > least && !list.some((x) => x.id === a.id));
  if (gone >= 0 && !asking.value) openAnswer(line[gone - 1] ?? null);
}

/* ---- evaluation (runs.ts): what stands where the answer would ---- */

export type RunPage = { kind: 'run'; run: Run } | { kind: 'new' } | { kind: 'starting' } | { kind: 'diff'; diff: RunDiff };
export const runPage = signal<RunPage | null>(null);

/** Puts it up, or away (null). */
export function showRunPage(page: RunPage | null, hash = ''): void {
  if (asking.value) stop();
  batch(() => {
    runPage.value = page;
    current.value = null;
    earlier.value = [];
    problem.value = null;
    panel.value = null;
    if (page) view.value = 'ask';
  });
  history.replaceState(null, '', hash || location.pathname);
}

async function openFromHash(): Promise<void> {
  const numbered = Number(/^#\/runs\/(\d+)$/.exec(location.hash)?.[1] ?? 0);
  if (numbered) {
    const shown = runPage.value?.kind === 'run' ? runPage.value.run.id : 0;
    if (shown !== numbered) await (await import('./runs')).openRun(numbered);
    return;
  }
  const id = Number(/^#\/answers\/(\d+)$/.exec(location.hash)?.[1] ?? 0);
  if (!id || current.value?.id === id || asking.value) return;
  try {
    const a = answers.value.find((x) => x.id === id) ?? (await api.getAnswer(id));
    openAnswer(a);
  } catch {
    history.replaceState(null, '', location.pathname);
  }
}

export async function eraseAnswer(a: Answer): Promise<void> {
  try {
    const r = await api.deleteAnswer(a.id);
    tellTabs();
    notify('done', `Erased the question: ${receipt(r)}.`);
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
  await refreshAnswers();
  closeErased();
}

/* ---- the document panel ---- */

export interface PanelTarget {
  document: number;
  name: string;
  start?: number; /* the span to show; none: the beginning */
  end?: number;
  page?: number | null;
  quote?: string;
}
export const panel = signal<PanelTarget | null>(null);
let opener: HTMLElement | null = null;

export function openPanel(target: PanelTarget): void {
  opener = document.activeElement instanceof HTMLElement ? document.activeElement : null;
  panel.value = target;
}

export function closePanel(): void {
  panel.value = null;
  // What had the focus before gets it back, if it is still on the page.
  const back = opener;
  opener = null;
  requestAnimationFrame(() => back?.isConnected && back.focus());
}

/* ---- keys ---- */

const SINGLE = 'pharos.single-keys';
export const keysShown = signal(false);
/** Single-key shortcuts can be put off: speech input and slips of the hand press keys too. */
export const singleKeys = signal(localStorage.getItem(SINGLE) !== 'off');
singleKeys.subscribe((on) => localStorage.setItem(SINGLE, on ? 'on' : 'off'));
