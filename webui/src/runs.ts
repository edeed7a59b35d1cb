// runs.ts - evaluation: starting, watching, comparing and erasing runs. Loaded when somebody looks at them.
import { effect, signal } from '@preact/signals';
import * as api from './api';
import {
  announcement, mayManage, notify, refresh, refreshAnswers, runPage, sentenceOf, showRunPage, status,
} from './state';
import type { Run, RunRequest } from './types';

const LOOK_AGAIN = 1500; /* ms, while a run fills */

/** Runs that are marked to be compared, in the order in which they were. */
export const chosen = signal<number[]>([]);

export function choose(id: number, on: boolean): void {
  const rest = chosen.value.filter((x) => x !== id);
  chosen.value = on ? [...rest, id].slice(-2) : rest;
}

export async function openRun(id: number): Promise<void> {
  try {
    const run = await api.getRun(id);
    showRunPage({ kind: 'run', run }, `#/runs/${id}`);
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
}

export async function compare(): Promise<void> {
  const [a, b] = [...chosen.value].sort((x, y) => x - y);
  if (!b) return;
  try {
    showRunPage({ kind: 'diff', diff: await api.getDiff(a, b) });
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
}

/* The run before the one that is being started: what is told of it is not told of the new one. */
let before: number | null = null;

/** '' when it was taken, else why not. */
export async function start(request: RunRequest): Promise<string> {
  before = status.value?.run?.id ?? null;
  try {
    await api.startRun(request);
  } catch (error) {
    return sentenceOf(error);
  }
  announcement.value = 'The run was taken.';
  showRunPage({ kind: 'starting' });
  void refresh();
  return '';
}

async function tell(what: Promise<unknown>): Promise<void> {
  try {
    await what;
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
  await refresh();
  await refreshAnswers();
}

export const stop = () => tell(api.stopRun());
export const resume = (id: number) =>
  tell(
    api.resumeRun(id).then(() => {
      before = null;
      showRunPage({ kind: 'starting' });
    }),
  );

export async function erase(r: Run): Promise<void> {
  await tell(
    api.deleteRun(r.id).then(() => {
      choose(r.id, false);
      notify('done', `Erased run ${r.id} with its ${r.done} cells.`);
      if (runPage.value?.kind === 'run' && runPage.value.run.id === r.id) showRunPage(null);
    }),
  );
}

/** The report as a file of this machine: fetched, because a token travels in a header. */
export async function download(id: number, format: string): Promise<void> {
  try {
    const url = URL.createObjectURL(await api.getReport(id, format));
    const link = document.createElement('a');
    link.href = url;
    link.download = `pharos-run-${id}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } catch (error) {
    notify('problem', sentenceOf(error));
  }
}

/* ---- watching ---- */

let looked = 0;
let seen = '';

async function look(id: number): Promise<void> {
  await refreshAnswers();
  const page = runPage.value;
  if (page?.kind !== 'starting' && !(page?.kind === 'run' && page.run.id === id)) return;
  try {
    const run = await api.getRun(id);
    const now = runPage.value; // somebody may have gone elsewhere meanwhile
    if (now?.kind === 'starting') showRunPage({ kind: 'run', run }, `#/runs/${id}`);
    else if (now?.kind === 'run' && now.run.id === id) runPage.value = { kind: 'run', run };
  } catch {
    // Erased, or not there yet: the next look tells.
  }
}

/* What the server tells of the run under way, or of the last one, comes with its status. */
effect(() => {
  const now = status.value?.run ?? null;
  const shown = runPage.value;
  const state = now ? `${now.id} ${now.active} ${now.cells} ${shown?.kind}` : '';
  if (!now || state === seen || (now.active && now.cells > 0 && Date.now() - looked < LOOK_AGAIN)) return;
  const ended = !now.active && seen.includes('true');
  seen = state;
  looked = Date.now();
  if (ended) announcement.value = 'The run has ended.';
  const fresh = now.id !== null && now.id !== before;
  if (shown?.kind === 'starting' && now.message && !now.active && !fresh) {
    notify('problem', now.message);
    showRunPage(mayManage.peek() ? { kind: 'new' } : null);
  } else if (now.id && (shown?.kind !== 'starting' || fresh)) void look(now.id);
});
