// Runs.tsx - the evaluation runs, which the command line starts.
import { useState } from 'preact/hooks';
import { plural, when } from '../format';
import { eraseRun, mayManage, openRun, run, runs } from '../state';
import type { Run } from '../types';
import { Icon } from './Icon';

const states = { unfinished: 'not finished', done: 'done', failed: 'failed' } as const;

function Row({ r }: { r: Run }) {
  const [sure, setSure] = useState(false);
  return (
    <li class="question-row" aria-current={run.value?.id === r.id ? 'true' : undefined}>
      <button type="button" class="open" onClick={() => void openRun(r)}>
        <span class="asked">Run {r.id}: {r.kind}</span>
        <span class="reply">{r.done} of {plural(r.cells, 'cell')}, {states[r.state]}</span>
        <span class="muted small">{when(r.started_at)} · {r.model}</span>
      </button>
      {sure ? (
        <div class="sure">
          <span>Erase this run?</span>
          <button type="button" class="danger" onClick={() => void eraseRun(r)}>Erase</button>
          <button type="button" onClick={() => setSure(false)}>Keep</button>
        </div>
      ) : (
        mayManage.value && (
          <button type="button" class="quiet" aria-label={`Erase run ${r.id}`} onClick={() => setSure(true)}>
            <Icon name="bin" />
          </button>
        )
      )}
    </li>
  );
}

export function Runs() {
  return (
    <section aria-labelledby="runs-title">
      <div class="head"><h2 id="runs-title">{plural(runs.value.length, 'run')}</h2></div>
      <p class="muted small">Evaluation runs of this machine. <kbd>pharos eval</kbd> starts them.</p>
      <ul class="rows">{runs.value.map((r) => <Row key={r.id} r={r} />)}</ul>
    </section>
  );
}
