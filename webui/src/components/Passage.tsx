// Passage.tsx - a quote within its sentence, from the document's text: a date or a name alone says little.
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { ByteText } from '../bytes';
import type { Citation } from '../types';

const AROUND = 240; /* bytes looked at on each side */
const LONG = 400; /* a quote of so many bytes needs nothing around it */

interface Around {
  before: string;
  inside: string;
  after: string;
}

/* Up to where its sentence or paragraph ends, or cut between words. */
function cut(text: string, base: number, total: number, c: Citation): Around {
  const t = new ByteText(text, base);
  let before = t.slice(Math.max(base, c.start - AROUND), c.start);
  let after = t.slice(c.end, Math.min(t.end, c.end + AROUND));
  const inside = t.slice(c.start, c.end);
  const starts = [...before.matchAll(/[.!?]["”’)]*\s+|\n\s*\n\s*/g)].pop();
  if (starts) before = before.slice(starts.index + starts[0].length);
  else if (c.start > AROUND) before = `… ${before.replace(/^\S*\s/, '')}`;
  const ends = /[.!?]["”’)]*(?=\s|$)|\n\s*\n/.exec(after);
  if (/[.!?]$/.test(inside)) after = '';
  else if (ends) after = after.slice(0, ends.index + ends[0].length);
  else if (c.end + AROUND < total) after = `${after.replace(/\s\S*$/, '')} …`;
  return { before: before.trimStart(), inside, after: after.trimEnd() };
}

export function Passage({ c }: { c: Citation }) {
  const [around, setAround] = useState<Around | null>(null);
  const known = c.document_id > 0 && c.end > c.start && c.end - c.start <= LONG;
  useEffect(() => {
    if (!known) return;
    const stop = new AbortController();
    // Where it cannot be had (the document was erased meanwhile), the quote stands alone.
    api.getText(c.document_id, Math.max(0, c.start - AROUND), c.end + AROUND, stop.signal).then(
      (t) => setAround(cut(t.text, t.start, t.total, c)),
      () => undefined,
    );
    return () => stop.abort();
  }, [c.document_id, c.start, c.end]);
  // Words that do not stand there are the answer's: of the document its own are shown.
  if (!around) return <q>{c.quote}</q>;
  return <q>{around.before}{c.in_text ? <mark>{around.inside}</mark> : around.inside}{around.after}</q>;
}
