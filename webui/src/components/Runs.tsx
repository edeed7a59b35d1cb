// Runs.tsx - the evaluation runs: start one, see how far it is, open, compare, erase.
import '../styles/runs.css';
import { useState } from 'preact/hooks';
import { count, percent, plural, when } from '../format';
import { choose, chosen, compare, erase, openRun, stop } from '../runs';
import { mayManage, runPage, runs, showRunPage, status } from '../state';
import type { Run } from '../types';
import { Icon } from './Icon';
import { Sure } from './Sure';

const states = { unfinished: 'not finished', done: 'done', failed: 'failed' } as const;

function Now() {
  const now = status.value?.run;
  if (!now?.active) return null;
  return (
    <div class="run-now">
      <p class="small">
        <strong>{now.id ? `Run ${now.id}` : 'A run'}</strong>{' '}
        {now.all ? `${count(now.cells)} of ${count(now.all)}` : 'waits for its turn'}
        {now.what && <span class="muted">, {now.what}{now.all_tokens > 0 && `: ${percent(now.tokens / now.all_tokens)} read`}</span>}
      </p>
      <progress aria-label="The run under way" {...(now.all ? { value: now.cells, max: now.all } : {})} />
      {mayManage.value && <button type="button" class="danger" onClick={() => void stop()}><Icon name="stop" />Stop</button>}
    </div>
  );
}

function Row({ r }: { r: Run }) {
  const [sure, setSure] = useState(false);
  const shown = runPage.value?.kind === 'run' && runPage.value.run.id === r.id;
  const active = status.value?.run?.active === true && status.value.run.id === r.id;
  return (
    <li class="question-row" aria-current={shown ? 'true' : undefined}>
      {runs.value.length > 1 && (
        <input
          type="checkbox" class="pick" aria-label={`Compare run ${r.id}`} title="Compare this run" checked={chosen.value.includes(r.id)}
          onChange={(e) => choose(r.id, e.currentTarget.checked)}
        />
      )}
      <button type="button" class="open" onClick={() => void openRun(r.id)}>
        <span class="asked">Run {r.id}: {r.kind}</span>
        <span class="reply">{count(r.done)} of {plural(r.cells, 'question')}, {active ? 'under way' : states[r.state]}</span>
        <span class="muted small">{when(r.started_at)} · {r.model}</span>
      </button>
      {sure ? (
        <Sure onErase={() => void erase(r)} onKeep={() => setSure(false)}>Erase this run?</Sure>
      ) : (
        mayManage.value && !active && (
          <button type="button" class="quiet" data-erases aria-label={`Erase run ${r.id}`} onClick={() => setSure(true)}>
            <Icon name="bin" />
          </button>
        )
      )}
    </li>
  );
}

export function Runs() {
  const n = chosen.value.length;
  return (
    <section aria-labelledby="runs-title" class="runs">
      <div class="head"><h2 id="runs-title">{runs.value.length ? plural(runs.value.length, 'run') : 'No runs yet'}</h2></div>
      <p class="muted small">Does the model read what is far away? A run asks questions whose answers are known, and says where misses come from.</p>
      <div class="buttons">
        {mayManage.value && (
          <button type="button" class="primary" disabled={status.value?.state !== 'ready'} onClick={() => showRunPage({ kind: 'new' })}>
            New run
          </button>
        )}
        {runs.value.length > 1 && (
          <button type="button" disabled={n !== 2} onClick={() => void compare()}>
            {n === 2 ? `Compare ${Math.min(...chosen.value)} and ${Math.max(...chosen.value)}` : 'Mark two to compare'}
          </button>
        )}
      </div>
      <Now />
      {runs.value.length > 0 && <ul class="rows">{runs.value.map((r) => <Row key={r.id} r={r} />)}</ul>}
    </section>
  );
}
