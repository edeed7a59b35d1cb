// format.ts - figures and names as people read them.
import type { Citation, Receipt } from './types';

const whole = new Intl.NumberFormat('en');
const two = new Intl.NumberFormat('en', { maximumSignificantDigits: 2 });

export const count = (n: number) => whole.format(Math.round(n));

export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  if (n < 1e6) return `${two.format(n / 1e3)} kB`;
  if (n < 1e9) return `${two.format(n / 1e6)} MB`;
  return `${two.format(n / 1e9)} GB`;
}

export const percent = (share: number) => {
  const p = 100 * share;
  if (p > 0 && p < 0.1) return 'under 0.1\u00a0%';
  return `${p >= 10 || p === 0 ? Math.round(p) : p.toFixed(1)}\u00a0%`;
};

export const times = (lift: number) => `${lift >= 10 ? count(lift) : two.format(lift)}\u00a0×`;

export function seconds(s: number): string {
  if (s < 1) return 'under a second';
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}

export function when(milliseconds: number): string {
  const date = new Date(milliseconds);
  const sameDay = date.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(undefined, sameDay ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' })
    .format(date);
}

/** What the server says begins small; a file's name that it begins with stays as it is. */
export const capital = (text: string) => text.replace(/^[a-z]+(?=[ ,])/, (w) => w[0].toUpperCase() + w.slice(1));

export const plural = (n: number, one: string, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export const place = (c: Citation) => (c.page ? `${c.document}, page ${c.page}` : c.document);

/* Upper and lower case and white space may differ, as where the server looked for it. */
const folded = (s: string) => s.toLowerCase().replace(/\s+/g, ' ').trim();
/** Whether the answer has the quoted words; a model that thinks may have quoted them before it. */
export const saysQuote = (answer: string, c: Citation) => folded(answer).includes(folded(c.quote));

/* The two verdicts of a citation, in words. */
export const verdictText = (c: Citation, said: boolean) =>
  c.in_text
    ? said
      ? 'The quote stands there.'
      : 'The model thought these words first, and they stand there; the answer has others.'
    : c.document_id
      ? 'These words do not stand there; it is the sentence that was read most.'
      : 'These words stand in none of the documents.';
export const verdictRead = (c: Citation) =>
  c.in_read_set === null
    ? 'Whether it was read is not known: the model is served elsewhere.'
    : c.in_read_set
    ? `It was read: ${percent(c.mass)} of the attention, ${times(c.lift)} its share.`
    : 'It is not in what was read.';

/** What a delete erased, as one sentence; only what there was. */
export function receipt(r: Receipt): string {
  const parts: string[] = [];
  const add = (n: number | undefined, one: string, size?: number, many?: string) => {
    if (n) parts.push(plural(n, one, many) + (size ? ` (${bytes(size)})` : ''));
  };
  add(r.documents, 'document');
  add(r.files, 'original file', r.file_bytes);
  if (r.text_bytes) parts.push(`${bytes(r.text_bytes)} of text`);
  add(r.segments, 'segment');
  add(r.packs, 'pack');
  add(r.snapshots, 'snapshot', r.snapshot_bytes);
  add(r.questions, 'question');
  add(r.answers, 'answer');
  add(r.citations, 'citation');
  add(r.traces, 'trace');
  add(r.runs, 'evaluation run');
  return parts.length ? parts.join(', ') : 'nothing was left to erase';
}
