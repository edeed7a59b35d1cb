// RunView.tsx - one evaluation run: how far it is, its figures, the questions behind each, and what others published.
import { useState } from 'preact/hooks';
import { count, percent, plural, seconds } from '../format';
import { download, erase, resume, stop } from '../runs';
import { mayManage, status } from '../state';
import type { Figure, Published, Run, RunResult, SummaryTable } from '../types';
import { Icon } from './Icon';
import { Sure } from './Sure';
import { type Place, resultsAt, RunTable } from './RunTable';

const SHOWN = 60; /* questions of a cell */

export function UnderWay() {
  const now = status.value?.run;
  if (!now?.active) return null;
  return (
    <div class="under-way">
      <p>
        <strong>{now.all ? `${count(now.cells)} of ${plural(now.all, 'question')} answered` : 'Waits for its turn'}</strong>
        <span class="muted">
          {now.what && `, at ${now.what}`}
          {now.all_tokens > 0 && `: reading ${count(now.tokens)} of ${count(now.all_tokens)} tokens`}
          {now.seconds_left !== null && (now.seconds_left < 1 ? ', nearly done' : `, at least ${seconds(now.seconds_left)} left`)}
        </span>
      </p>
      <progress aria-label="Questions answered" {...(now.all ? { value: now.cells, max: now.all } : {})} />
      <p class="muted small">Questions of people and documents to be read come first; the run goes on when they are done.</p>
    </div>
  );
}

function Actions({ run }: { run: Run }) {
  const [sure, setSure] = useState(false);
  const now = status.value?.run;
  const active = now?.active === true && now.id === run.id;
  return (
    <>
      <div class="actions">
        {active && mayManage.value && (
          <button type="button" class="danger" onClick={() => void stop()}><Icon name="stop" />Stop the run</button>
        )}
        {!active && mayManage.value && run.done < run.cells && (
          <button type="button" class="primary" disabled={now?.active === true} onClick={() => void resume(run.id)}>
            Go on with it
          </button>
        )}
        {run.done > 0 && (
          <>
            <span class="muted small">Report:</span>
            {['html', 'csv', 'json'].map((format) => (
              <button type="button" key={format} onClick={() => void download(run.id, format)}>
                {format.toUpperCase()}<span class="unseen"> report</span>
              </button>
            ))}
          </>
        )}
        {!active && mayManage.value && !sure && (
          <button type="button" class="quiet" data-erases aria-label={`Erase this run (${run.id})`} title="Erase" onClick={() => setSure(true)}>
            <Icon name="bin" />
          </button>
        )}
      </div>
      {sure && (
        <Sure onErase={() => void erase(run)} onKeep={() => setSure(false)}>Erase this run, with its questions and answers?</Sure>
      )}
    </>
  );
}

/* What the model looked at, in a sentence. */
function sight(r: RunResult): string {
  const first = r.trace?.first;
  if (!first?.length) return '';
  const ranks = first.map((s) => s[0]).filter((rank) => rank > 0);
  const best = ranks.length ? Math.min(...ranks) : 0;
  const mass = Math.max(...first.map((s) => s[2]));
  const parts = [
    best ? `best index rank ${count(best)} in layer ${first.findIndex((s) => s[0] === best)}` : 'no index rank',
    r.trace?.held ? `selected, ${percent(mass)} of the attention at most` : 'not selected by the first word',
  ];
  return parts.join('; ');
}

function where(r: RunResult): string {
  const parts: string[] = [];
  if (r.span) parts.push(`it stands at token ${count(r.span[0])} to ${count(r.span[1])} of ${count(r.prompt_tokens)}`);
  if (r.depth >= 0) parts.push(`${Math.round(r.depth)} % deep`);
  if (r.read_rank !== undefined) parts.push(r.read_rank ? `number ${r.read_rank} of the sentences read most` : 'not among the 8 sentences read most');
  if (r.cited !== undefined) parts.push(r.cited ? 'cited rightly' : 'not cited');
  if (r.bm25_rank !== undefined) parts.push(r.bm25_rank ? `number ${r.bm25_rank} by keywords (BM25)` : 'not found by keywords (BM25)');
  return parts.join(', ');
}

function Questions({ at, results }: { at: Place; results: RunResult[] }) {
  return (
    <section class="cell-questions" aria-label={`Questions of ${at.row}, ${at.column}`}>
      <h3>{at.table}: {at.row}, {at.column}</h3>
      <ul>
        {results.slice(0, SHOWN).map((r, i) => (
          <li key={i}>
            <p><strong>{r.question}</strong> <span class="muted small">{r.variant !== 'sparse' && r.variant}</span></p>
            <p>Expected: {r.expected.length ? <q>{r.expected.join(' / ')}</q> : <em>nothing in the text answers</em>}</p>
            {r.thought?.text && <p class="muted">Thought first: <q>{r.thought.text}</q></p>}
            <p>Answered: <q>{r.answer}</q></p>
            <p class={r.right ? 'good' : 'doubt'}>
              <Icon name={r.right ? 'check' : 'cross'} /> {r.right ? 'Right' : 'Wrong'}: {r.verdict}{r.detail && `, ${r.detail}`}
            </p>
            {(sight(r) || where(r)) && <p class="muted small">{[where(r), sight(r)].filter(Boolean).join('; ')}</p>}
          </li>
        ))}
      </ul>
      {results.length > SHOWN && <p class="muted small">The first {SHOWN} of {count(results.length)}; the reports have all.</p>}
    </section>
  );
}

const perfect = (f: Figure | null) => f !== null && f.mean === 1;

/* Our own row of what is published; null where the figures are not of one kind. */
function ours(p: Published, tables: SummaryTable[]): string[] | null {
  const grid = tables.find((t) => t.columns === 'depth');
  if (p.columns[0] === 'cells perfect' && grid) {
    const cells = grid.values.flat().filter((f) => f !== null);
    const full = grid.values.map((row) => row.every(perfect));
    const to = full.findIndex((row) => !row);
    const last = grid.row_names.indexOf('128K');
    const deepest = last >= 0 ? `${grid.values[last].filter(perfect).length} of ${grid.column_names.length}` : '';
    const reach = to === 0 ? 'none' : `to ${grid.row_names[(to < 0 ? full.length : to) - 1]}`;
    return [cells.length ? percent(cells.filter(perfect).length / cells.length) : '', reach, deepest];
  }
  const ruler = tables.find((t) => t.rows === 'task' && t.row_names.includes('mean'));
  if (!ruler) return null;
  const mean = ruler.values[ruler.row_names.indexOf('mean')];
  const row = p.columns.map((c) => {
    const f = mean[ruler.column_names.indexOf(c)];
    return f ? (100 * f.mean).toFixed(1) : '';
  });
  return row.some(Boolean) ? row : null;
}

function PublishedTable({ p, tables }: { p: Published; tables: SummaryTable[] }) {
  const mine = ours(p, tables);
  return (
    <div class="table" tabIndex={0} role="group" aria-label={`${p.title}, table`}>
      <table>
        <caption>{p.title}<span class="muted note">{p.source}. Their authors’ figures; none was measured here.</span></caption>
        <thead><tr><th scope="col">model</th>{p.columns.map((c) => <th scope="col" key={c}>{c}</th>)}</tr></thead>
        <tbody>
          {mine && (
            <tr class="ours">
              <th scope="row">this run</th>
              {mine.map((v, i) => <td key={i}>{v || '–'}</td>)}
            </tr>
          )}
          {p.rows.map((r) => (
            <tr key={r.name}>
              <th scope="row">{r.name}</th>
              {r.values.map((v, i) => <td key={i}>{v || '–'}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function RunView({ run }: { run: Run }) {
  const [open, setOpen] = useState<Place | null>(null);
  const all = (run.results ?? []).map((c) => c.result).filter((r): r is RunResult => r !== null);
  const right = all.filter((r) => r.right).length;
  const tables = run.summary?.tables ?? [];
  const active = status.value?.run?.active === true && status.value.run.id === run.id;
  return (
    <article class="exchange run" aria-label={`Run ${run.id}`}>
      <h2 class="question">Run {run.id}: {run.kind}</h2>
      <p>
        {count(run.done)} of {plural(run.cells, 'question')}
        {all.length > 0 && `, ${count(right)} right (${percent(right / all.length)})`}
        {run.state === 'failed' && `; failed: ${run.note}`}
        {run.state === 'unfinished' && !active && '; stopped, and can go on where it was'}
      </p>
      {active && <UnderWay />}
      <Actions run={run} />
      {tables.map((t) => (
        <div key={t.title} class="with-cell">
          <RunTable t={t} open={open} onOpen={setOpen} />
          {open?.table === t.title && <Questions at={open} results={resultsAt(t, open, all)} />}
        </div>
      ))}
      {tables.length > 0 && (
        <p class="muted small">
          Figures are percent, with their 95 % interval and number of samples where there is room. Choose one to see its questions.
        </p>
      )}
      {(run.summary?.verdicts.length ?? 0) > 0 && (
        <section aria-label="Verdicts">
          <h3>Where misses come from</h3>
          <ul class="verdicts">
            {run.summary?.verdicts.map((v) => <li key={v.verdict}><strong>{count(v.cells)}</strong> {v.verdict}</li>)}
          </ul>
        </section>
      )}
      {run.published?.map((p) => <PublishedTable key={p.title} p={p} tables={tables} />)}
      {(run.protocol?.length ?? 0) > 0 && (
        <details>
          <summary>How this was measured, and where that differs from what is published</summary>
          <ul class="protocol">{run.protocol?.map((note) => <li key={note}>{note}</li>)}</ul>
        </details>
      )}
      {run.more && <p class="muted small">Only the first results are listed here; the reports have all.</p>}
      <p class="muted small figures">{run.model} · seed {run.seed} · <code>{run.command}</code></p>
    </article>
  );
}
