// RunView.tsx - one evaluation run as a map of length against depth (or task), a table whose cells carry their figure
// besides their shade, so that map and table are one. A cell opens to its questions.
import { useState } from 'preact/hooks';
import { count, percent, plural } from '../format';
import type { Run, RunResult } from '../types';

interface Cell {
  results: RunResult[];
  score: number;
}

interface Grid {
  title: string;
  rows: number[]; /* lengths */
  columns: string[];
  cells: Map<string, Cell>; /* "length column" */
}

const columnOf = (r: RunResult, deep: boolean) => (deep ? percent(r.depth / 100) : r.task);
const deepTasks = (all: RunResult[]) => all.some((r) => r.depth >= 0) && new Set(all.map((r) => r.task)).size === 1;

/* One grid for each variant (sparse, dense, ...), with the same rows and columns, to be compared. */
function grids(all: RunResult[]): Grid[] {
  const deep = deepTasks(all);
  const sorted = [...all].sort((a, b) => a.depth - b.depth || a.task.localeCompare(b.task));
  const columns = [...new Set(sorted.map((r) => columnOf(r, deep)))];
  const rows = [...new Set(all.map((r) => r.length))].sort((a, b) => a - b);
  return [...new Set(all.map((r) => r.variant))].map((variant) => {
    const cells = new Map<string, Cell>();
    for (const r of all.filter((x) => x.variant === variant)) {
      const key = `${r.length} ${columnOf(r, deep)}`;
      const cell = cells.get(key) ?? { results: [], score: 0 };
      cell.results.push(r);
      cell.score = cell.results.reduce((sum, x) => sum + x.score, 0) / cell.results.length;
      cells.set(key, cell);
    }
    return { title: variant, rows, columns, cells };
  });
}

function GridTable({ grid, open, onOpen }: { grid: Grid; open: Cell | null; onOpen: (c: Cell) => void }) {
  return (
    <div class="table">
      <table class="grid">
        <caption>{grid.title || 'Score'}</caption>
        <thead>
          <tr>
            <th scope="col">Tokens</th>
            {grid.columns.map((c) => <th scope="col" key={c}>{c}</th>)}
          </tr>
        </thead>
        <tbody>
          {grid.rows.map((length) => (
            <tr key={length}>
              <th scope="row" class="figure">{count(length)}</th>
              {grid.columns.map((column) => {
                const cell = grid.cells.get(`${length} ${column}`);
                if (!cell) return <td key={column} class="muted"><span class="unseen">not yet</span></td>;
                return (
                  <td key={column} class={`step-${Math.round(cell.score * 4)}`}>
                    <button
                      type="button" aria-pressed={open === cell} onClick={() => onOpen(cell)}
                      aria-label={`${count(length)} tokens, ${column}: ${percent(cell.score)}`}
                    >
                      {Math.round(100 * cell.score)}
                    </button>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Questions({ cell }: { cell: Cell }) {
  return (
    <ul class="cell-questions">
      {cell.results.map((r, i) => (
        <li key={i}>
          <p><strong>{r.question}</strong></p>
          <p>Expected: <q>{r.expected.join(' / ')}</q></p>
          <p>Answered: <q>{r.answer}</q></p>
          <p class={r.right ? 'good' : 'doubt'}>{r.right ? 'Right' : 'Wrong'}: {r.verdict}{r.detail && `, ${r.detail}`}</p>
        </li>
      ))}
    </ul>
  );
}

export function RunView({ run }: { run: Run }) {
  const [open, setOpen] = useState<Cell | null>(null);
  const all = (run.results ?? []).map((c) => c.result).filter((r): r is RunResult => r !== null);
  const right = all.filter((r) => r.right).length;
  return (
    <article class="exchange" aria-label={`Run ${run.id}`}>
      <h2 class="question">Run {run.id}: {run.kind}</h2>
      <p>
        {run.done} of {plural(run.cells, 'cell')}
        {all.length > 0 && `, ${count(right)} right (${percent(right / all.length)})`}
        {run.state === 'failed' && `; failed: ${run.note}`}
      </p>
      {run.state === 'unfinished' && <progress value={run.done} max={run.cells || 1} aria-label="Cells done" />}
      {grids(all).map((g) => <GridTable key={g.title} grid={g} open={open} onOpen={setOpen} />)}
      <p class="muted small">Figures are percent right; down: tokens of the prompt; across: where the answer stands, or the task.</p>
      {open && <Questions cell={open} />}
      <p class="muted small figures">{run.model} · seed {run.seed} · <code>{run.command}</code></p>
    </article>
  );
}
