// Map.tsx - the pack as a strip: its documents side by side in their order, the attention as bars above them. Height
// says how much, never colour alone; the table below says it in figures.
import { percent } from '../format';
import type { Strip, Trace } from '../types';

const WIDTH = 1000;
const BARS = 90;
const BAND = 22;

export function Map({ t, strip, whole, label }: { t: Trace; strip: Strip; whole: boolean; label: string }) {
  const span = Math.max(1, whole ? (t.capacity ?? 1) : (t.tokens_in_pack ?? 1));
  const bin = t.bin_tokens ?? 1;
  const x = (token: number) => (Math.min(token, span) / span) * WIDTH;
  const top = Math.max(1e-9, ...strip.map(([, mass]) => mass));
  const documents = t.map ?? [];
  return (
    <figure class="map">
      <svg viewBox={`0 0 ${WIDTH} ${BARS + BAND}`} preserveAspectRatio="none" role="img" aria-label={label}>
        <rect class="ground" x={0} y={0} width={WIDTH} height={BARS} />
        {documents.map((d, i) => (
          <g key={i}>
            <rect class={i % 2 ? 'band odd' : 'band'} x={x(d.token_start)} y={BARS} width={Math.max(0.5, x(d.token_end) - x(d.token_start))} height={BAND} />
            <line class="edge" x1={x(d.token_start)} x2={x(d.token_start)} y1={0} y2={BARS + BAND} />
          </g>
        ))}
        {strip.map(([b, mass]) => {
          const height = Math.max(1.5, (mass / top) * (BARS - 6));
          return <rect key={b} class="mass" x={x(b * bin)} y={BARS - height} width={Math.max(2, x((b + 1) * bin) - x(b * bin))} height={height} />;
        })}
      </svg>
      <div class="labels" aria-hidden="true">
        {documents.map((d, i) => (
          <span key={i} title={d.document} style={{ '--at': x(d.token_start) / WIDTH, '--share': (x(d.token_end) - x(d.token_start)) / WIDTH }}>
            {i + 1} {d.document}
          </span>
        ))}
      </div>
      <figcaption class="muted small">
        Left to right: the documents in the order in which the model read them. The highest bar is {percent(top > 1e-9 ? top : 0)} of the attention.
      </figcaption>
    </figure>
  );
}
