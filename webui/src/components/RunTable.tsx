// RunTable.tsx - one table of a run's figures. A share is shown as a number, a bar below it and a hatching where it is low,
// so that map and table are one and nothing is told by colour alone. A cell opens to its questions.
import { count } from '../format';
import type { Figure, RunResult, SummaryTable } from '../types';
import { Curves } from './RunCurves';

export interface Place {
  table: string;
  row: string;
  column: string;
}

const lengthOf = (name: string) => (name.endsWith('K') ? 1024 * parseInt(name, 10) : parseInt(name, 10));

/* Whether a result belongs to a row or a column of this kind; null: such a name says nothing about results. */
function belongs(r: RunResult, kind: string, name: string): boolean | null {
  if (kind === 'length') return r.length === lengthOf(name);
  if (kind === 'depth') return Math.round(r.depth) === parseInt(name, 10);
  if (kind === 'task') return name === 'mean' || r.task === name;
  if (kind === 'positions') return r.variant === name;
  const fifth = /^(\d+)-(\d+)%$/.exec(name);
  if (kind === 'figure' && fifth) {
    const depth = Math.max(0, r.depth);
    return depth >= Number(fifth[1]) && (depth < Number(fifth[2]) || fifth[2] === '100');
  }
  return null;
}

/** The questions behind a figure; none where it is a figure of the whole. */
export function resultsAt(t: SummaryTable, at: Place, all: RunResult[]): RunResult[] {
  // A table of one variant says so at the end of its title.
  const variant = [...new Set(all.map((r) => r.variant))].find((v) => t.title.endsWith(`, ${v}`));
  return all.filter((r) => {
    if (variant && r.variant !== variant) return false;
    const row = belongs(r, t.rows, at.row);
    const column = belongs(r, t.columns, at.column);
    return (row ?? column) !== null && row !== false && column !== false;
  });
}

const opens = (t: SummaryTable) => t.rows === 'length' || t.rows === 'task';

const plain = (v: number) => (v >= 100 ? count(v) : Number(v.toPrecision(3)).toString());
const interval = (v: Figure) =>
  v.low === undefined || v.high === undefined ? '' : `${Math.round(100 * v.low)}\u2013${Math.round(100 * v.high)}`;

interface CellProps {
  t: SummaryTable;
  v: Figure | null;
  at: Place;
  small: boolean;
  open: boolean;
  onOpen: (at: Place) => void;
}

function Cell({ t, v, at, small, open, onOpen }: CellProps) {
  if (!v) return <td class="muted empty"><span aria-hidden="true">–</span><span class="unseen">none yet</span></td>;
  const share = t.unit === '%';
  const text = share ? String(Math.round(100 * v.mean)) : plain(v.mean);
  // What a small cell has no room for is there for who listens.
  const inside = (
    <>
      <span class="unseen">{at.row}, {at.column}: </span>
      <span class="value">{text}</span>
      <span class={small ? 'unseen' : 'muted samples'}>{share && ` ${interval(v)}`} n={count(v.n)}</span>
      {share && <span class="share" ref={(e) => e?.style.setProperty('--share', String(v.mean))} />}
    </>
  );
  const step = share ? `step-${Math.min(4, Math.floor(v.mean * 5))}` : '';
  return (
    <td class={step}>
      {opens(t) ? (
        <button type="button" aria-pressed={open} onClick={() => onOpen(at)}>{inside}</button>
      ) : (
        <span class="plain-cell">{inside}</span>
      )}
    </td>
  );
}

interface Props {
  t: SummaryTable;
  open: Place | null;
  onOpen: (at: Place) => void;
}

export function RunTable({ t, open, onOpen }: Props) {
  const small = t.column_names.length > 6;
  return (
    <section class="run-table" aria-label={t.title}>
      <div class="table" tabIndex={0} role="group" aria-label={`${t.title}, table`}>
        <table class="grid">
          <caption>
            {t.title}{t.unit === '%' && ', %'}
            {t.note && <span class="muted note">{t.note}</span>}
          </caption>
          <thead>
            <tr>
              <th scope="col">{t.rows}</th>
              {t.column_names.map((c) => <th scope="col" key={c}>{c}</th>)}
            </tr>
          </thead>
          <tbody>
            {t.row_names.map((row, i) => (
              <tr key={row}>
                <th scope="row">{row}</th>
                {t.column_names.map((column, k) => (
                  <Cell
                    key={column} t={t} v={t.values[i]?.[k] ?? null} at={{ table: t.title, row, column }} small={small}
                    open={open?.table === t.title && open.row === row && open.column === column} onOpen={onOpen}
                  />
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Curves t={t} />
    </section>
  );
}
