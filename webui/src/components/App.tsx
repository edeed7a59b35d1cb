// App.tsx - the frame: what stands where, drops, and the keys that work everywhere.
import { useEffect, useState } from 'preact/hooks';
import { fromDrop } from '../drop';
import {
  addFiles, announcement, asking, closePanel, dismissNotice, keysShown, newQuestion, notices, offline, panel, runPage, show, showRunPage, side,
  singleKeys, status, tokenWanted, uploads, view, type View,
} from '../state';
import { Ask } from './Ask';
import { Documents } from './Documents';
import { Icon, Lighthouse } from './Icon';
import { Keys } from './Keys';
import { lazy } from './lazy';
import { Panel } from './Panel';
import { Token } from './Token';

const Questions = lazy(() => import('./Questions').then((m) => m.Questions));
const Runs = lazy(() => import('./Runs').then((m) => m.Runs));

function State() {
  const s = status.value;
  if (offline.value) return <span class="state problem">{offline.value}. Trying again.</span>;
  if (!s) return <span class="state">Looking for the server</span>;
  if (s.state === 'loading') return <span class="state">Loading the model</span>;
  if (s.state === 'failed')
    return <span class="state problem" title={s.message}>The model could not be loaded{s.message && `: ${s.message}`}</span>;
  return <span class="state">{s.model}</span>;
}

function Header() {
  return (
    <header class="top">
      <Lighthouse lit={asking.value !== null} />
      <h1>Pharos</h1>
      <State />
      <button type="button" class="plain" onClick={() => (keysShown.value = true)}>Keys</button>
    </header>
  );
}

const places = [
  ['ask', 'Ask'],
  ['documents', 'Documents'],
  ['questions', 'Questions'],
  ['runs', 'Evaluate'],
] as const;

/* A run stands where an answer would; where one part is shown at a time, it is evaluation's. */
function Places() {
  const here = view.value === 'ask' && runPage.value ? 'runs' : view.value;
  const go = (key: View) => {
    if (key === 'ask' && runPage.value) showRunPage(null);
    show(key);
  };
  return (
    <nav class="places" aria-label="Parts of the page">
      {places.map(([key, label]) => (
        <button
          type="button"
          key={key}
          class={`place-${key}`}
          aria-current={here === key ? 'page' : undefined}
          data-side={side.value === key ? 'shown' : undefined}
          onClick={() => go(key)}
        >
          {label}
        </button>
      ))}
    </nav>
  );
}

function Notices() {
  return (
    <div class="notices" role="log" aria-label="Notices">
      {notices.value.map((n) => (
        <div class={`notice ${n.kind}`} key={n.id}>
          <Icon name={n.kind === 'done' ? 'check' : 'warn'} />
          <p>{n.text}</p>
          <button type="button" class="quiet" aria-label="Put this notice away" onClick={() => dismissNotice(n.id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}

/* Whether a key pressed here is meant as text. */
const isTyping = (target: EventTarget | null) =>
  target instanceof HTMLElement && target.closest('input:not([type=checkbox]), textarea, select, [contenteditable]') !== null;

function toQuestion(): void {
  show('ask');
  const question = document.getElementById('question');
  question?.focus();
  // On a narrow page it comes into view first.
  if (document.activeElement !== question) requestAnimationFrame(() => question?.focus());
}

function onKey(e: KeyboardEvent): void {
  if (e.key === 'Escape' && panel.value && !keysShown.value && !e.defaultPrevented) {
    closePanel();
    return;
  }
  // With Alt it works while typing too; on some keyboards that is another letter.
  const newOne = e.key.toLowerCase() === 'n' || (e.altKey && e.code === 'KeyN');
  if (newOne && !e.ctrlKey && !e.metaKey && !keysShown.value && (e.altKey || (!isTyping(e.target) && singleKeys.value))) {
    e.preventDefault();
    newQuestion();
    toQuestion();
    return;
  }
  if (e.ctrlKey || e.metaKey || e.altKey || isTyping(e.target) || !singleKeys.value || keysShown.value) return;
  if (e.key === '/') {
    e.preventDefault();
    toQuestion();
  } else if (e.key === '?') {
    e.preventDefault();
    keysShown.value = true;
  }
}

function useDrop(): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    // Every element entered fires once more: only leaving as often as entering means that the files are gone.
    let depth = 0;
    const files = (e: DragEvent) => !!e.dataTransfer && [...e.dataTransfer.types].includes('Files');
    const enter = (e: DragEvent) => {
      if (!files(e)) return;
      depth++;
      setOver(true);
    };
    const leave = (e: DragEvent) => {
      if (!files(e)) return;
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const move = (e: DragEvent) => files(e) && e.preventDefault();
    const drop = (e: DragEvent) => {
      if (!files(e) || !e.dataTransfer) return;
      e.preventDefault();
      depth = 0;
      setOver(false);
      void fromDrop(e.dataTransfer).then(addFiles);
    };
    const events = { dragenter: enter, dragleave: leave, dragover: move, drop } as const;
    for (const [name, f] of Object.entries(events)) window.addEventListener(name, f as EventListener);
    return () => {
      for (const [name, f] of Object.entries(events)) window.removeEventListener(name, f as EventListener);
    };
  }, []);
  return over;
}

export function App() {
  const over = useDrop();
  useEffect(() => {
    window.addEventListener('keydown', onKey);
    // Bytes that this tab is still sending would be lost by leaving; everything else lives on the server.
    const leaving = (e: BeforeUnloadEvent) => {
      if (uploads.value.some((u) => !u.error)) e.preventDefault();
    };
    window.addEventListener('beforeunload', leaving);
    return () => {
      window.removeEventListener('keydown', onKey);
      window.removeEventListener('beforeunload', leaving);
    };
  }, []);
  return (
    <div class="app" data-view={view.value} data-panel={panel.value ? 'open' : 'closed'} data-run={runPage.value ? 'shown' : 'none'}>
      <a class="skip" href="#question" onClick={(e) => { e.preventDefault(); toQuestion(); }}>
        Skip to the question
      </a>
      <Header />
      <Notices />
      <Places />
      <main>
        <section class="side" aria-label={places.find(([key]) => key === side.value)?.[1]}>
          {side.value === 'documents' ? <Documents /> : side.value === 'questions' ? <Questions /> : <Runs />}
        </section>
        <Ask />
      </main>
      {panel.value && <Panel key={`${panel.value.document}:${panel.value.start}`} target={panel.value} />}
      {keysShown.value && <Keys />}
      {tokenWanted.value && <Token />}
      {over && <div class="dropping" aria-hidden="true"><p>Drop to add these documents</p></div>}
      <div class="unseen" role="status" aria-live="polite">{announcement.value}</div>
    </div>
  );
}
