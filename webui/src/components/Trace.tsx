// Trace.tsx - what was read for each word: the words, the map of the whole pack with the attention over it, and
// tables that say the same in figures.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { count, percent, times } from '../format';
import { openPanel } from '../state';
import type { Answer, Sentence, Strip, Trace as TraceData } from '../types';
import { Map } from './Map';
import { Words } from './Words';

const LISTED = 12; /* sentences in the table; the map of a short pack shows more */

function useTrace(id: number, layer: number | null): { trace: TraceData | null; failed: string } {
  const cache = useRef(new globalThis.Map<number | null, TraceData>());
  const [trace, setTrace] = useState<TraceData | null>(null);
  const [failed, setFailed] = useState('');
  useEffect(() => {
    const known = cache.current.get(layer);
    if (known) {
      setTrace(known);
      return;
    }
    const stop = new AbortController();
    api.getTrace(id, layer, stop.signal).then(
      (t) => {
        cache.current.set(layer, t);
        setTrace(t);
        setFailed('');
      },
      (error: Error) => !stop.signal.aborted && setFailed(error.message),
    );
    return () => stop.abort();
  }, [id, layer]);
  return { trace, failed };
}

const openSentence = (s: Sentence) =>
  openPanel({ document: s.document_id, name: s.document, start: s.start, end: s.end, quote: s.sentence });

function Sentences({ list, caption }: { list: Sentence[]; caption: string }) {
  if (!list.length) return <p class="muted">Nothing of the documents.</p>;
  return (
    <div class="table">
      <table class="sentences">
        <caption>{caption}</caption>
        <thead>
          <tr>
            <th scope="col">Sentence</th>
            <th scope="col" class="figure">Share</th>
            <th scope="col" class="figure">Against chance</th>
          </tr>
        </thead>
        <tbody>
          {list.slice(0, LISTED).map((s, i) => (
            <tr key={i}>
              <td>
                <button type="button" class="sentence" onClick={() => openSentence(s)}>{s.sentence}</button>
                <span class="muted small">{s.document}</span>
              </td>
              <td class="figure">{percent(s.mass)}</td>
              <td class="figure">{times(s.lift)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/* Mass of each document: bins that two share are divided by how much of each lies in them. */
export function byDocument(t: TraceData, strip: Strip): number[] {
  const width = t.bin_tokens ?? 1;
  const out = (t.map ?? []).map(() => 0);
  for (const [bin, mass] of strip) {
    const from = bin * width;
    const overlaps = (t.map ?? []).map((d) => Math.max(0, Math.min(d.token_end, from + width) - Math.max(d.token_start, from)));
    const all = overlaps.reduce((a, b) => a + b, 0);
    if (all) overlaps.forEach((o, i) => (out[i] += (mass * o) / all));
  }
  return out;
}

function Shares({ t, strip }: { t: TraceData; strip: Strip }) {
  const shares = byDocument(t, strip);
  return (
    <div class="table">
      <table>
        <caption>The map in figures</caption>
        <thead>
          <tr>
            <th scope="col" class="figure">On the map</th>
            <th scope="col">Document</th>
            <th scope="col" class="figure">Tokens</th>
            <th scope="col" class="figure">Share</th>
          </tr>
        </thead>
        <tbody>
          {(t.map ?? []).map((d, i) => (
            <tr key={i}>
              <td class="figure">{i + 1}</td>
              <td class="wrap">{d.document}</td>
              <td class="figure">{count(d.token_start)} to {count(d.token_end)}</td>
              <td class="figure">{percent(shares[i])}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Trace({ answer }: { answer: Answer }) {
  const [layer, setLayer] = useState<number | null>(null);
  const [pinned, setPinned] = useState(-1);
  const [hovered, setHovered] = useState<number | null>(null);
  const [whole, setWhole] = useState(false);
  const { trace: t, failed } = useTrace(answer.id, layer);
  const words = useMemo(() => [...(t?.thought?.words ?? []), ...(t?.words ?? [])], [t]);
  if (failed) return <p class="failure">{failed}</p>;
  if (!t) return <p class="muted">Loading</p>;
  if (t.missing) return <p class="muted">What was read cannot be shown: {t.missing}.</p>;
  const thought = t.thought?.words ?? [];
  const shown = hovered ?? pinned;
  const word = words[shown];
  const strip = (word ? word.strip : t.strip) ?? [];
  const list = (word ? word.read_set : t.read_set) ?? [];
  const of = word ? `"${word.word}"${shown < thought.length ? ' of the thought' : ''}` : thought.length ? 'thought and answer' : 'the whole answer';
  return (
    <div class="trace">
      <p class="muted small">
        Which sentences the model's attention was on while it wrote. Share is of the attention on the documents; against
        chance is how many times a random stretch of the same length would have had.
      </p>
      <div class="choices">
        <label>
          Layer{' '}
          <select
            value={layer === null ? 'all' : String(layer)}
            onChange={(e) => setLayer(e.currentTarget.value === 'all' ? null : Number(e.currentTarget.value))}
          >
            <option value="all">all together</option>
            {Array.from({ length: t.layers ?? 0 }, (_, l) => <option key={l} value={String(l)}>{l}</option>)}
          </select>
        </label>
        <label class="check">
          <input type="checkbox" checked={whole} onChange={(e) => setWhole(e.currentTarget.checked)} />
          <span>Show the free part of the context too</span>
        </label>
      </div>
      <Words words={words} thought={thought.length} pinned={pinned} onPin={setPinned} onHover={setHovered} />
      <p class="selected" role="status">
        Read for <strong>{of}</strong>
        {word?.on_documents !== undefined && <span class="muted">: {percent(word.on_documents)} of all attention was on the documents</span>}
        {word?.probability !== undefined && <span class="muted">, the word's probability was {percent(word.probability)}</span>}
      </p>
      <Map t={t} strip={strip} sentences={list} whole={whole} label={`Attention over the documents for ${of}`} />
      <Sentences list={list} caption={`Heaviest sentences for ${of}`} />
      <details>
        <summary>The map in figures</summary>
        <Shares t={t} strip={strip} />
      </details>
    </div>
  );
}
