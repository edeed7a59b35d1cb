// Map.tsx - the pack as a strip: its documents side by side in their order, the attention as bars above them. Height
// says how much, never colour alone; the table below says it in figures.
import { count, percent } from '../format';
import { memo } from '../memo';
import type { Sentence, Strip, Trace } from '../types';

const WIDTH = 1000;
const BARS = 90;
const BAND = 22;
const FEW = 40; /* with fewer bins than this a bar for each bin says too little */

interface Bar {
  from: number; /* tokens */
  to: number;
  mass: number;
}

/* A sentence's bytes onto the tokens of its document, as if all tokens were of one length. */
function sentenceBars(t: Trace, list: Sentence[]): Bar[] {
  const bars: Bar[] = [];
  for (const s of list) {
    const d = t.map?.find((m) => m.document_id === s.document_id && s.start >= m.start && s.start < m.end);
    if (!d || d.end <= d.start) continue;
    const scale = (d.text_token_end - d.text_token_start) / (d.end - d.start);
    bars.push({
      from: d.text_token_start + (s.start - d.start) * scale,
      to: d.text_token_start + (s.end - d.start) * scale,
      mass: s.mass,
    });
  }
  return bars;
}

const placed = (token: number, span: number) => (Math.min(token, span) / span) * WIDTH;

/* Where the documents stand: the same for every word. */
const Bands = memo<{ t: Trace; span: number }>(({ t, span }) => {
  const x = (token: number) => placed(token, span);
  return (
    <>
      {(t.map ?? []).map((d, i) => (
        <g key={i}>
          <rect
            class={i % 2 ? 'band odd' : 'band'} x={x(d.token_start)} y={BARS}
            width={Math.max(0.5, x(d.token_end) - x(d.token_start))} height={BAND}
          />
          <line class="edge" x1={x(d.token_start)} x2={x(d.token_start)} y1={0} y2={BARS + BAND} />
        </g>
      ))}
    </>
  );
});

const Labels = memo<{ t: Trace; span: number }>(({ t, span }) => {
  const x = (token: number) => placed(token, span);
  return (
    <div class="labels" aria-hidden="true">
      {(t.map ?? []).map((d, i) => (
        <span
          key={i} title={d.document}
          style={{ '--at': x(d.token_start) / WIDTH, '--share': (x(d.token_end) - x(d.token_start)) / WIDTH }}
        >
          {x(d.token_end) - x(d.token_start) > 0.06 * WIDTH ? `${i + 1} ${d.document}` : i + 1}
        </span>
      ))}
    </div>
  );
});

interface Props {
  t: Trace;
  strip: Strip;
  sentences: Sentence[];
  whole: boolean;
  label: string;
}

export function Map({ t, strip, sentences, whole, label }: Props) {
  const span = Math.max(1, whole ? (t.capacity ?? 1) : (t.tokens_in_pack ?? 1));
  const bin = t.bin_tokens ?? 1;
  const fine = !whole && span / bin < FEW;
  const bars = fine
    ? sentenceBars(t, sentences)
    : strip.map(([b, mass]) => ({ from: b * bin, to: (b + 1) * bin, mass }));
  const x = (token: number) => placed(token, span);
  const top = Math.max(0, ...bars.map((b) => b.mass));
  return (
    <figure class="map">
      <svg viewBox={`0 0 ${WIDTH} ${BARS + BAND}`} preserveAspectRatio="none" role="img" aria-label={label}>
        <rect class="ground" x={0} y={0} width={WIDTH} height={BARS} />
        <Bands t={t} span={span} />
        {bars.map((b, i) => {
          const height = Math.max(1.5, top ? (b.mass / top) * (BARS - 6) : 0);
          return (
            <rect
              key={i} class="mass" x={x(b.from)} y={BARS - height} width={Math.max(2, x(b.to) - x(b.from))} height={height}
            />
          );
        })}
      </svg>
      <Labels t={t} span={span} />
      <figcaption class="muted small">
        Left to right: the documents in the order in which the model read them. A bar is{' '}
        {fine ? 'a sentence' : `${count(bin)} tokens`}; the highest is {percent(top)} of the attention on the documents.
      </figcaption>
    </figure>
  );
}
