// RunDiff.tsx - two runs side by side: the figures that both have, and the questions whose score changed.
import { useState } from 'preact/hooks';
import { count, plural } from '../format';
import { openRun } from '../runs';
import type { Figure, RunDiff as Diff } from '../types';

const SHOWN = 200;

const figure = (f: Figure) => (f.low === undefined ? Number(f.mean.toPrecision(3)).toString() : `${(100 * f.mean).toFixed(1)} %`);
const change = (f: Diff['figures'][number]) =>
  `${f.change > 0 ? '+' : ''}${f.a.low === undefined ? Number(f.change.toPrecision(3)) : (100 * f.change).toFixed(1)}`;

export function RunDiff({ diff }: { diff: Diff }) {
  const [all, setAll] = useState(false);
  const changed = diff.figures.filter((f) => f.change !== 0);
  const list = (all ? diff.figures : changed).slice(0, SHOWN);
  return (
    <article class="exchange run" aria-label={`Runs ${diff.a} and ${diff.b}`}>
      <h2 class="question">From run {diff.a} to run {diff.b}</h2>
      <p>
        {diff.figures.length
          ? `${count(changed.length)} of ${plural(diff.figures.length, 'figure')} that both have changed; ${plural(diff.cells.length, 'question')} with another score.`
          : 'They have no figure in common: runs of one kind, with lengths in common, can be compared.'}
      </p>
      <div class="actions">
        <button type="button" onClick={() => void openRun(diff.a)}>Run {diff.a}</button>
        <button type="button" onClick={() => void openRun(diff.b)}>Run {diff.b}</button>
        {changed.length < diff.figures.length && (
          <label class="check">
            <input type="checkbox" checked={all} onChange={(e) => setAll(e.currentTarget.checked)} />
            <span>Also what did not change</span>
          </label>
        )}
      </div>
      {list.length > 0 && (
        <div class="table" tabIndex={0} role="group" aria-label="Figures, table">
          <table>
            <caption>Figures</caption>
            <thead>
              <tr>
                <th scope="col">Figure</th>
                <th scope="col" class="figure">Run {diff.a}</th>
                <th scope="col" class="figure">Run {diff.b}</th>
                <th scope="col" class="figure">Change</th>
              </tr>
            </thead>
            <tbody>
              {list.map((f, i) => (
                <tr key={i}>
                  <th scope="row" class="wrap">{f.table}: {f.row}, {f.column}</th>
                  <td class="figure">{figure(f.a)}</td>
                  <td class="figure">{figure(f.b)}</td>
                  <td class="figure">
                    {change(f)}
                    {f.apart && <strong> more than chance</strong>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {diff.figures.length > SHOWN && <p class="muted small">The first {SHOWN} are shown; <code>pharos eval diff</code> lists all.</p>}
      {diff.cells.length > 0 && (
        <section class="cell-questions" aria-label="Questions with another score">
          <h3>Questions with another score</h3>
          <ul>
            {diff.cells.slice(0, SHOWN).map((c) => (
              <li key={c.cell}>
                <p><strong>{c.question}</strong></p>
                <p>Run {diff.a}: <q>{c.a}</q> <span class="muted small">{Math.round(100 * c.score_a)} %, {c.verdict_a}</span></p>
                <p>Run {diff.b}: <q>{c.b}</q> <span class="muted small">{Math.round(100 * c.score_b)} %, {c.verdict_b}</span></p>
              </li>
            ))}
          </ul>
        </section>
      )}
      <p class="muted small">“More than chance”: the 95 % intervals of the two shares do not touch.</p>
    </article>
  );
}
