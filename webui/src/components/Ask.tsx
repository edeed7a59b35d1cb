// Ask.tsx - the middle of the page: the question that is asked, how far it is, its answer.
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { capital, count, percent, plural, seconds } from '../format';
import {
  ask, asking, current, documents, draft, earlier, followed, loaded, mayManage, newQuestion, opened, problem, runPage, show, sources, status, stop, thinks, ways, type Asking,
} from '../state';
import { AnswerView, EarlierView } from './Answer';
import { Icon, Lighthouse } from './Icon';
import { lazy } from './lazy';
import { Streaming } from './Streaming';
import { Thought } from './Thought';

const RunPage = lazy(() => import('./RunPage').then((m) => m.RunPage));

function chooseFiles(): void {
  show('documents'); // where each file then tells how it is doing, and where the picker is
  requestAnimationFrame(() => document.getElementById('pick-files')?.click());
}

/* What to do where there is nothing yet. */
function FirstSteps() {
  if (!mayManage.value)
    return <p>There is nothing to ask yet. Your token may ask; who manages this server adds the documents.</p>;
  return (
    <>
      <ol class="steps">
        <li><strong>Put documents in.</strong> PDF, Word, slides, sheets, books, web pages, text: drop files or folders anywhere on this page.</li>
        <li><strong>Wait until they are ready.</strong> Each is read once, whole; its row says how far that is.</li>
        <li><strong>Ask</strong> what one of them says, in its own words if you can.</li>
      </ol>
      <p><button type="button" class="primary" onClick={chooseFiles}>Choose files to begin</button></p>
      <p class="muted small">
        {status.value?.state === 'ready' &&
          (status.value.remote
            ? 'The model is served elsewhere: questions and documents are sent there. '
            : 'Nothing leaves the machine that Pharos runs on. ')}
        What you erase later is erased everywhere.
      </p>
    </>
  );
}

function NoModel() {
  const s = status.value;
  if (s?.state !== 'failed') return null;
  return (
    <p class="failure no-model" role="alert">
      <Icon name="warn" />Nothing can be asked, because the model could not be loaded. {capital(s.message)}. Put that right and start{' '}
      <code>pharos serve</code> again; what is added meanwhile is kept.
    </p>
  );
}

function Welcome() {
  const none = loaded.value && documents.value.length === 0;
  return (
    <div class="welcome">
      <Lighthouse lit />
      <NoModel />
      <h2>{none ? 'Put documents in. Ask. See what was read.' : 'Ask the documents'}</h2>
      <p>
        Pharos reads your documents whole, finds the passage that answers, and shows which sentences its attention was on
        while it wrote each word.
      </p>
      {none ? (
        <FirstSteps />
      ) : (
        <p class="muted">
          {status.value?.remote
            ? 'Each answer comes with the places where it stands, and it says so when nothing answers.'
            : 'It copies what stands there. It does not summarise or chat, and it says so when nothing answers.'}
        </p>
      )}
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

function UnderWay({ a }: { a: Asking }) {
  const box = useRef<HTMLElement>(null);
  // Below what it follows, which may fill the page.
  useEffect(() => box.current?.scrollIntoView(), []);
  return (
    <article class="exchange" ref={box} aria-label="The question that is being answered" aria-busy="true">
      <h2 class="question">{a.question}</h2>
      <Advance a={a} />
      {a.thought && <Thought text={a.thought} />}
      {a.text && <Streaming text={a.text} />}
    </article>
  );
}

function Exchange() {
  if (asking.value) return <UnderWay a={asking.value} />;
  if (problem.value)
    return (
      <article class="exchange">
        <h2 class="question">{problem.value.question}</h2>
        {problem.value.thought && <Thought text={problem.value.thought} />}
        {problem.value.partial && <p class="answer-text partial">{problem.value.partial}</p>}
        <p class="failure"><Icon name="warn" />{problem.value.text}</p>
      </article>
    );
  if (runPage.value) return <RunPage page={runPage.value} />;
  if (current.value) return <AnswerView key={current.value.id} answer={current.value} />;
  return <Welcome />;
}

/* Drawn again only when the conversation changes, not with each word that comes. */
function Earlier() {
  const at = opened.value;
  useEffect(() => document.getElementById(`answer-${at?.id}`)?.scrollIntoView(), [at]);
  return <>{earlier.value.map((a) => <EarlierView key={a.id} answer={a} />)}</>;
}

function sourcesText(): string {
  const n = sources.value.length;
  const all = documents.value.length;
  if (all === 0) return 'There are no documents yet';
  if (n === 0) return 'No document is chosen';
  if (n === all) return all === 1 ? `From ${documents.value[0].name}` : `From all ${plural(all, 'document')}`;
  return n === 1 ? `From ${sources.value[0].name}` : `From ${count(n)} of ${plural(all, 'document')}`;
}

/* How the next question is answered: said in a line, changed below it. */
function HowToAnswer() {
  const able = status.value?.thinking?.able === true;
  const remote = status.value?.remote === true; // a server reads all that it is sent
  const w = ways.value;
  if (remote && !able) return null;
  return (
    <details class="how">
      <summary>
        {thinks.value ? 'Thinks first' : 'Answers at once'}
        {!remote && (w.whole ? ', looks at everything' : ', best passages first')}
      </summary>
      {able && (
        <label class="check tall">
          <input
            type="checkbox" checked={thinks.value} aria-describedby="how-think"
            onChange={(e) => (ways.value = { ...w, thinking: e.currentTarget.checked })}
          />
          <span>Think first<span id="how-think" class="muted small hint">
            The model first quotes the sentence that it answers from, then answers. The quote is shown apart, and it takes a
            little longer.
          </span></span>
        </label>
      )}
      {!remote && <label class="check tall">
        <input
          type="checkbox" checked={w.whole} aria-describedby="how-whole"
          onChange={(e) => (ways.value = { ...w, whole: e.currentTarget.checked })}
        />
        <span>Look at everything at once<span id="how-whole" class="muted small hint">
          Without it, the passages that share words with the question are looked at first, and everything only where they say
          nothing.
        </span></span>
      </label>}
    </details>
  );
}

/* Whether the next question goes on from what stands above, and what is sent for it; and the way out. */
function Follows({ n, onNew }: { n: number; onNew: () => void }) {
  return (
    <div class="follows small">
      <p id="composer-follows">
        <strong>Follows {plural(n, 'question')}</strong>
        <span class="muted">
          : {current.value?.turns_left_out ? 'the last of them are sent with their answers' : `sent with ${n === 1 ? 'its answer' : 'their answers'}`}
        </span>
      </p>
      <button type="button" disabled={asking.value !== null} onClick={onNew}><Icon name="add" />New question</button>
    </div>
  );
}

function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  const busy = asking.value !== null;
  const ready = status.value?.state === 'ready';
  const possible = !busy && ready && sources.value.length > 0 && draft.value.trim() !== '';
  const follows = asking.value ? earlier.value.length : followed.value.length;
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
  // At the beginning, and where Send or Stop was pressed and is gone. Not on a telephone, where the keyboard would cover half of
  // the page.
  useEffect(() => {
    const lost = document.activeElement === null || document.activeElement === document.body;
    if (lost && window.matchMedia('(pointer: fine)').matches) box.current?.focus({ preventScroll: true });
  }, [busy]);
  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        send();
      }}
    >
      {follows > 0 && (
        <Follows
          n={follows}
          onNew={() => {
            newQuestion();
            box.current?.focus();
          }}
        />
      )}
      <label for="question" class="unseen">{follows ? 'Follow-up question' : 'Question'}</label>
      <textarea
        id="question" ref={box} rows={1} placeholder={follows ? 'Ask on' : 'Ask the documents'} value={draft.value}
        maxLength={60000} aria-describedby={follows ? 'composer-follows composer-note' : 'composer-note'} enterkeyhint="send"
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
      <div class="foot small">
        <p id="composer-note" class="muted">
          <span class="from">{sourcesText()}</span>
          <span class="wide-only">Enter sends, Shift+Enter breaks the line</span>
        </p>
        <HowToAnswer />
      </div>
    </form>
  );
}

export function Ask() {
  return (
    <section class="ask" aria-label="Question and answer">
      <div class="scroll" tabIndex={-1}>
        <Earlier />
        <Exchange />
      </div>
      <Composer />
    </section>
  );
}
