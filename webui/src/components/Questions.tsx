// Questions.tsx - what was asked before, from the server.
import { useState } from 'preact/hooks';
import { plural, when } from '../format';
import { answers, current, eraseAnswer, openAnswer } from '../state';
import { following, threads } from '../thread';
import type { Answer } from '../types';
import { Icon } from './Icon';
import { Sure } from './Sure';

/* What follows a question was answered with it before the model's eyes, and goes with it. */
function sureText(a: Answer): string {
  const n = following(a, answers.value).length;
  if (!n) return 'Erase it with its trace?';
  return `Erase it with its trace, and the ${n === 1 ? 'question that follows' : `${n} questions that follow`} it?`;
}

function Row({ a, follows }: { a: Answer; follows: boolean }) {
  const [sure, setSure] = useState(false);
  return (
    <li class={follows ? 'question-row follow-up' : 'question-row'} aria-current={current.value?.id === a.id ? 'true' : undefined}>
      <button type="button" class="open" onClick={() => openAnswer(a)}>
        <span class="asked">{follows && <span class="unseen">Follow-up: </span>}{a.question}</span>
        <span class={a.found ? 'reply' : 'reply none'}>{a.found ? a.answer : 'Not in the documents'}</span>
        {a.asked_at !== undefined && <span class="muted small">{when(a.asked_at)}</span>}
      </button>
      {sure ? (
        <Sure onErase={() => void eraseAnswer(a)} onKeep={() => setSure(false)}>{sureText(a)}</Sure>
      ) : (
        <button type="button" class="quiet" data-erases aria-label={`Erase the question: ${a.question}`} onClick={() => setSure(true)}>
          <Icon name="bin" />
        </button>
      )}
    </li>
  );
}

export function Questions() {
  return (
    <section class="questions" aria-labelledby="questions-title">
      <div class="head">
        <h2 id="questions-title">
          {answers.value.length ? plural(answers.value.length, 'question') : 'No questions yet'}
        </h2>
      </div>
      {answers.value.length === 0 ? (
        <p class="muted">Questions and their answers are kept here, on this machine, until you erase them.</p>
      ) : (
        <ul class="rows">
          {threads(answers.value).map((t) => t.map((a, i) => <Row key={a.id} a={a} follows={i > 0} />))}
        </ul>
      )}
    </section>
  );
}
