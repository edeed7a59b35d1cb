// Answer.tsx - a finished answer: its words with the marks of the citations, the citations with both verdicts, and
// the way to what was read. Answers are copied out of documents: they are shown as plain text, never as markup.
import { useEffect, useState } from 'preact/hooks';
import { count, percent, place, plural, saysQuote, seconds, verdictRead, verdictText, when } from '../format';
import { announcement, ask, asking, openPanel } from '../state';
import type { Answer, Citation } from '../types';
import { Icon } from './Icon';
import { lazy } from './lazy';
import { Mark } from './Mark';
import { Passage } from './Passage';
import { Thought } from './Thought';

/* The model's own words for it, which need not be said twice. */
const NOT_FOUND = 'Not found in the documents.';

export const openCitation = (c: Citation) =>
  openPanel({ document: c.document_id, name: c.document, start: c.start, end: c.end, page: c.page, quote: c.quote });

/* Where the quotes stand in the answer: [end, index], ascending. A quote that is not found is marked at the end. */
function marks(answer: Answer): [number, number][] {
  const out: [number, number][] = [];
  let from = 0;
  answer.citations.forEach((c, i) => {
    let at = answer.answer.indexOf(c.quote, from);
    if (at < 0) at = answer.answer.indexOf(c.quote);
    const end = at < 0 ? answer.answer.length : at + c.quote.length;
    if (at >= 0) from = end;
    out.push([end, i]);
  });
  return out.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}

function Text({ answer }: { answer: Answer }) {
  const parts: (string | preact.JSX.Element)[] = [];
  let from = 0;
  for (const [end, i] of marks(answer)) {
    if (end > from) parts.push(answer.answer.slice(from, end));
    from = Math.max(from, end);
    parts.push(<Mark key={i} number={i + 1} citation={answer.citations[i]} said={saysQuote(answer.answer, answer.citations[i])} onOpen={openCitation} />);
  }
  parts.push(answer.answer.slice(from));
  return <p class="answer-text">{parts}</p>;
}

function CitationCard({ c, number, answer }: { c: Citation; number: number; answer: string }) {
  const good = c.in_text && saysQuote(answer, c);
  return (
    <li class="citation">
      <button type="button" class="open" disabled={!c.document_id} onClick={() => openCitation(c)}>
        <span class="number">{number}</span>
        <span class="where">{place(c)}</span>
        <Passage c={c} />
      </button>
      <p class={good ? 'verdict good' : 'verdict doubt'}>
        <Icon name={good ? 'check' : 'warn'} />{verdictText(c, saysQuote(answer, c))}
      </p>
      <p class={c.in_read_set ? 'verdict good' : 'verdict doubt'}>
        <Icon name={c.in_read_set ? 'check' : 'warn'} />{verdictRead(c)}
      </p>
    </li>
  );
}

function withCitations(a: Answer): string {
  const lines = [a.found ? a.answer : `${a.answer} (nothing was found)`];
  if (a.citations.length) lines.push('');
  a.citations.forEach((c, i) =>
    lines.push(`[${i + 1}] ${place(c)}: "${c.quote}"${c.in_text ? '' : ' (these words do not stand there)'}`),
  );
  return lines.join('\n');
}

async function copyText(text: string): Promise<boolean> {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused by the browser: the old way below needs no permission.
    }
  }
  const box = document.createElement('textarea');
  box.value = text;
  box.className = 'unseen';
  document.body.append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  return done;
}

function Copy({ answer }: { answer: Answer }) {
  const [done, setDone] = useState('');
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(''), 2500);
    return () => clearTimeout(timer);
  }, [done]);
  return (
    <button
      type="button"
      onClick={async () => {
        const text = (await copyText(withCitations(answer))) ? 'Copied' : 'Could not copy';
        announcement.value = text;
        setDone(text);
      }}
    >
      <Icon name={done === 'Copied' ? 'check' : 'copy'} />
      {done || (answer.citations.length ? 'Copy with citations' : 'Copy')}
    </button>
  );
}

function Figures({ a }: { a: Answer }) {
  const parts: string[] = [];
  if (a.asked_at) parts.push(when(a.asked_at));
  if (a.timing?.total_ms) parts.push(seconds(a.timing.total_ms / 1000));
  if (a.usage?.prompt_tokens)
    parts.push(`${plural(a.usage.prompt_tokens, 'token')} before it, ${count(a.usage.cached_tokens)} from cache`);
  if (a.confidence) parts.push(`sure to ${percent(a.confidence)}`);
  if (a.model) parts.push(a.model);
  return <p class="muted small figures">{parts.join(' · ')}</p>;
}

/* Which look the answer is from, and the way to the other one. */
function Look({ a }: { a: Answer }) {
  if (!a.passages) return null;
  return (
    <p class="look muted small">
      From the {plural(a.passages, 'passage')} that match the question best.{' '}
      <button type="button" disabled={asking.value !== null} onClick={() => void ask(a.question, { whole: true }, true)}>
        Look at everything
      </button>
    </p>
  );
}

/* Nobody is to think that all was asked when it was not. */
function Unasked({ a }: { a: Answer }) {
  const asked = a.packs_asked ?? 0;
  if (!asked || !a.packs || asked >= a.packs) return null;
  return (
    <p class="caution">
      <Icon name="warn" />Only the {plural(asked, 'context')} of {count(a.packs)} that match the question best{' '}
      {asked === 1 ? 'was' : 'were'} asked.{' '}
      <button type="button" disabled={asking.value !== null} onClick={() => void ask(a.question, { packs: a.packs }, true)}>
        Ask all {count(a.packs)}
      </button>
    </p>
  );
}

const Trace = lazy(() => import('./Trace').then((m) => m.Trace));

function WhatWasRead({ answer }: { answer: Answer }) {
  const [open, setOpen] = useState(false);
  return (
    <div class="read" role="group" aria-label="What was read">
      <button type="button" class="toggle" aria-expanded={open} onClick={() => setOpen(!open)}>What was read</button>
      {open && <Trace answer={answer} />}
    </div>
  );
}

/* Of a long conversation not all is sent along, and nobody is to think that it was. */
function LeftOut({ a }: { a: Answer }) {
  const n = a.turns_left_out ?? 0;
  if (!n) return null;
  return (
    <p class="caution">
      <Icon name="warn" />Of this conversation the last {plural(a.turns ?? 0, 'question')} went along with this one. The {count(n)} before{' '}
      {n === 1 ? 'it' : 'them'} did not fit.
    </p>
  );
}

function Sources({ a }: { a: Answer }) {
  return (
    <div class="sources">
      {a.citations.length > 0 && (
        <>
          <h3>{a.found ? 'Where it stands' : 'What was read most'}</h3>
          <ol class="citations">{a.citations.map((c, i) => <CitationCard key={i} c={c} number={i + 1} answer={a.answer} />)}</ol>
        </>
      )}
      <div class="buttons">
        <Copy answer={a} />
      </div>
      <Figures a={a} />
      {a.id > 0 && <WhatWasRead answer={a} />}
    </div>
  );
}

/** An exchange further up in the conversation: what it rests on is folded. */
export function EarlierView({ answer: a }: { answer: Answer }) {
  return (
    <article class="earlier" id={`answer-${a.id}`} aria-label="Earlier answer">
      <h2 class="question">{a.question}</h2>
      {a.found ? <Text answer={a} /> : <p class="verdict-line"><Icon name="cross" />Not in the documents</p>}
      <LeftOut a={a} />
      <details>
        <summary>{a.found ? `Where it stands (${plural(a.citations.length, 'place')}), what was read` : 'What was read'}</summary>
        {a.thought && <Thought text={a.thought} />}
        <Sources a={a} />
      </details>
    </article>
  );
}

export function AnswerView({ answer: a }: { answer: Answer }) {
  return (
    <article class={a.found ? 'exchange found' : 'exchange not-found'} id={`answer-${a.id}`} aria-label="Answer">
      <h2 class="question">{a.question}</h2>
      {a.thought && <Thought text={a.thought} />}
      {a.found ? (
        <Text answer={a} />
      ) : (
        <div class="nothing">
          <p class="verdict-line"><Icon name="cross" /><strong>Not in the documents</strong></p>
          <p>
            Nothing in the documents that were asked answers this.{' '}
            {a.answer && a.answer !== NOT_FOUND && <span class="muted">The model wrote: {a.answer}</span>}
          </p>
          <p class="muted small">
            It may help to ask in the words that the text itself uses, and for one thing at a time. Which documents are asked is
            chosen by their checkboxes.
          </p>
        </div>
      )}
      <LeftOut a={a} />
      <Look a={a} />
      <Unasked a={a} />
      {a.cut_off && <p class="caution"><Icon name="warn" />The answer was cut off at the greatest length allowed.</p>}
      {a.note && <p class="caution"><Icon name="warn" />{a.note}</p>}
      <Sources a={a} />
    </article>
  );
}
