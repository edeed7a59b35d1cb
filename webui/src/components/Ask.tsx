// Ask.tsx - the middle of the page: the question that is asked, how far it is, its answer.
import type { ComponentType } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { count, percent, plural, seconds } from '../format';
import {
  ask, asking, current, documents, draft, problem, runPage, show, sources, status, stop, type Asking, type RunPage,
} from '../state';
import { AnswerView } from './Answer';
import { Icon, Lighthouse } from './Icon';
import { Streaming } from './Streaming';

function Welcome() {
  const none = documents.value.length === 0;
  return (
    <div class="welcome">
      <Lighthouse lit />
      <h2>{none ? 'Put documents in. Ask. See what was read.' : 'Ask the documents'}</h2>
      <p>
        Pharos reads your documents whole, finds the passage that answers, and shows which sentences its attention was on
        while it wrote each word.
      </p>
      {none ? (
        <p>Drop files or folders anywhere on this page. Nothing leaves this machine.</p>
      ) : (
        <p class="muted">It copies what stands there. It does not summarise or chat, and it says so when nothing answers.</p>
      )}
      {none && <button type="button" class="primary narrow-only" onClick={() => show('documents')}>Add documents</button>}
    </div>
  );
}

function phaseText(a: Asking): string {
  if (a.place > 0) return a.place === 1 ? 'Next in line' : `Number ${count(a.place)} in line`;
  switch (a.progress?.phase) {
    case 'reading':
      return 'Reading the documents';
    case 'asking':
      return 'Reading the question';
    case 'writing':
      return 'Writing';
    default:
      return 'Starting';
  }
}

function Advance({ a }: { a: Asking }) {
  const p = a.place > 0 ? null : a.progress;
  const share = p && p.total ? Math.min(1, p.done / p.total) : null;
  const showBar = p?.phase !== 'writing';
  return (
    <div class="under-way">
      <p>
        <strong>{phaseText(a)}</strong>
        {p?.phase === 'reading' && share !== null && (
          <span class="muted">
            {' '}{percent(share)}: {count(p.done)} of {count(p.total)} tokens
            {p.rate ? `, ${count(p.rate)} a second` : ''}
            {p.seconds_left ? `, ${seconds(p.seconds_left)} left` : ''}
            {p.cached ? `; ${count(p.cached)} from cache` : ''}
          </span>
        )}
      </p>
      {showBar && <progress aria-label={phaseText(a)} {...(share === null ? {} : { value: share, max: 1 })} />}
      {a.note && <p class="muted">{a.note}. The question begins again.</p>}
    </div>
  );
}

/* Few look at evaluation: what shows it comes when it is wanted. */
function LazyRunPage(props: { page: RunPage }) {
  const [View, setView] = useState<ComponentType<{ page: RunPage }> | null>(null);
  useEffect(() => void import('./RunPage').then((m) => setView(() => m.RunPage), () => undefined), []);
  return View ? <View {...props} /> : <p class="muted">Loading</p>;
}

function Exchange() {
  const a = asking.value;
  if (a)
    return (
      <article class="exchange" aria-label="The question that is being answered" aria-busy="true">
        <h2 class="question">{a.question}</h2>
        <Advance a={a} />
        {a.text && <Streaming text={a.text} />}
      </article>
    );
  if (problem.value)
    return (
      <article class="exchange">
        <h2 class="question">{problem.value.question}</h2>
        {problem.value.partial && <p class="answer-text partial">{problem.value.partial}</p>}
        <p class="failure"><Icon name="warn" />{problem.value.text}</p>
      </article>
    );
  if (runPage.value) return <LazyRunPage page={runPage.value} />;
  if (current.value) return <AnswerView key={current.value.id} answer={current.value} />;
  return <Welcome />;
}

function sourcesText(): string {
  const n = sources.value.length;
  const all = documents.value.length;
  if (all === 0) return 'There are no documents yet';
  if (n === 0) return 'No document is chosen';
  if (n === all) return all === 1 ? `From ${documents.value[0].name}` : `From all ${plural(all, 'document')}`;
  return n === 1 ? `From ${sources.value[0].name}` : `From ${count(n)} of ${plural(all, 'document')}`;
}

function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  const busy = asking.value !== null;
  const ready = status.value?.state === 'ready';
  const possible = !busy && ready && sources.value.length > 0 && draft.value.trim() !== '';
  const send = () => {
    if (possible) void ask(draft.value);
  };
  // As high as its text, up to what the stylesheet allows.
  useLayoutEffect(() => {
    const b = box.current;
    if (!b) return;
    b.style.height = 'auto';
    b.style.height = `${b.scrollHeight + 2}px`;
  }, [draft.value]);
  // Not on a telephone, where the keyboard would cover half of the page.
  useEffect(() => {
    if (window.matchMedia('(pointer: fine)').matches) box.current?.focus({ preventScroll: true });
  }, []);
  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        send();
      }}
    >
      <label for="question" class="unseen">Question</label>
      <textarea
        id="question" ref={box} rows={1} placeholder="Ask the documents" value={draft.value}
        maxLength={60000} aria-describedby="composer-note" enterkeyhint="send"
        onInput={(e) => (draft.value = e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
          e.preventDefault();
          send();
        }}
      />
      {/* Keys keep the two apart: one button that became the other while it is clicked would send the question again. */}
      {busy ? (
        <button key="stop" type="button" class="go stop" onClick={stop}><Icon name="stop" />Stop</button>
      ) : (
        <button key="send" type="submit" class="go primary" disabled={!possible}><Icon name="send" />Send</button>
      )}
      <p id="composer-note" class="muted small">
        <span class="from">{sourcesText()}</span>
        <span class="wide-only">Enter sends, Shift+Enter breaks the line</span>
      </p>
    </form>
  );
}

export function Ask() {
  return (
    <section class="ask" aria-label="Question and answer">
      <div class="scroll" tabIndex={-1}>
        <Exchange />
      </div>
      <Composer />
    </section>
  );
}
