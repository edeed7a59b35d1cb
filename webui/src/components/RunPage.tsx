// RunPage.tsx - evaluation in the middle of the page: a form, a run, or two of them. Few look at it: it comes when it is
// wanted.
import '../styles/runs.css';
import type { RunPage as Page } from '../state';
import { NewRun } from './NewRun';
import { RunDiff } from './RunDiff';
import { RunView, UnderWay } from './RunView';

export function RunPage({ page }: { page: Page }) {
  switch (page.kind) {
    case 'new':
      return <NewRun />;
    case 'starting':
      return (
        <article class="exchange" aria-label="A run that is starting">
          <h2 class="question">The run begins</h2>
          <UnderWay />
        </article>
      );
    case 'diff':
      return <RunDiff diff={page.diff} />;
    case 'run':
      return <RunView key={page.run.id} run={page.run} />;
  }
}
