// RunCurves.tsx - the lines of a table of shares: told apart by marker and dashes besides colour, named at their end. The
// table above says the same.
import type { SummaryTable } from '../types';

const WIDTH = 640;
const HEIGHT = 230;
const LEFT = 38;
const RIGHT = 190;
const TOP = 10;
const BOTTOM = 30;
const MOST = 14;

interface Line {
  name: string;
  points: (number | null)[];
}

/* Along k where the columns are "@k", along lengths where there are lengths. */
function linesOf(t: SummaryTable): { along: string[]; lines: Line[] } | null {
  if (t.unit !== '%' || t.columns === 'measure' || t.columns === 'depth') return null;
  const down = t.rows === 'length' && !t.column_names.every((c) => c.startsWith('@') || /^\d+-\d+%$/.test(c) || /^token /.test(c));
  const along = down ? t.row_names : t.column_names;
  // Of many tasks the mean alone: a dozen lines say nothing.
  const names = down ? t.column_names : t.rows === 'task' && t.row_names.length > 7 ? t.row_names.filter((n) => n === 'mean') : t.row_names;
  if (along.length < 2 || !names.length || names.length > MOST) return null;
  const at = (name: string, k: number) =>
    (down ? t.values[k]?.[t.column_names.indexOf(name)] : t.values[t.row_names.indexOf(name)]?.[k])?.mean ?? null;
  return { along, lines: names.map((name) => ({ name, points: along.map((_, k) => at(name, k)) })) };
}

function Marker({ kind, x, y }: { kind: number; x: number; y: number }) {
  if (kind % 4 === 0) return <circle cx={x} cy={y} r={3.2} />;
  if (kind % 4 === 1) return <rect x={x - 3} y={y - 3} width={6} height={6} />;
  if (kind % 4 === 2) return <path d={`M${x} ${y - 4}l4 7h-8z`} />;
  return <path d={`M${x} ${y - 4}l4 4-4 4-4-4z`} />;
}

export function Curves({ t }: { t: SummaryTable }) {
  const what = linesOf(t);
  if (!what) return null;
  const { along, lines } = what;
  const height = Math.max(HEIGHT, TOP + BOTTOM + lines.length * 15);
  const step = (WIDTH - LEFT - RIGHT) / (along.length - 1);
  const y = (share: number) => TOP + (height - TOP - BOTTOM) * (1 - share);
  return (
    <div class="table curves" tabIndex={0} role="group" aria-label={`${t.title}, curves`}>
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`${t.title}, as curves; the table above has the figures`}>
        {[0, 0.25, 0.5, 0.75, 1].map((share) => (
          <g key={share}>
            <line class="rule" x1={LEFT} x2={WIDTH - RIGHT} y1={y(share)} y2={y(share)} />
            <text x={LEFT - 6} y={y(share) + 4} text-anchor="end">{100 * share}</text>
          </g>
        ))}
        {along.map((name, k) => (
          <text key={name} x={LEFT + step * k} y={height - BOTTOM + 18} text-anchor="middle">{name}</text>
        ))}
        {lines.map((line, i) => {
          let pen = false;
          let d = '';
          line.points.forEach((p, k) => {
            if (p !== null) d += `${pen ? 'L' : 'M'}${(LEFT + step * k).toFixed(1)} ${y(p).toFixed(1)}`;
            pen = p !== null;
          });
          const key = TOP + 8 + i * 15;
          return (
            <g key={line.name} class={`series-${i % 6} dash-${Math.floor(i / 6) % 3}`}>
              <path class="line" d={d} />
              {line.points.map((p, k) => p !== null && <Marker key={k} kind={i} x={LEFT + step * k} y={y(p)} />)}
              <Marker kind={i} x={WIDTH - RIGHT + 18} y={key} />
              <text x={WIDTH - RIGHT + 28} y={key + 4}>{line.name}</text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}
