// Questions.tsx - what was asked before, from the server.
import { useState } from 'preact/hooks';
import { plural, when } from '../format';
import { answers, current, eraseAnswer, openAnswer } from '../state';
import type { Answer } from '../types';
import { Icon } from './Icon';
import { Sure } from './Sure';

function Row({ a }: { a: Answer }) {
  const [sure, setSure] = useState(false);
  return (
    <li class="question-row" aria-current={current.value?.id === a.id ? 'true' : undefined}>
      <button type="button" class="open" onClick={() => openAnswer(a)}>
        <span class="asked">{a.question}</span>
        <span class={a.found ? 'reply' : 'reply none'}>{a.found ? a.answer : 'Not in the documents'}</span>
        {a.asked_at !== undefined && <span class="muted small">{when(a.asked_at)}</span>}
      </button>
      {sure ? (
        <Sure onErase={() => void eraseAnswer(a)} onKeep={() => setSure(false)}>Erase it with its trace?</Sure>
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
        <ul class="rows">{answers.value.map((a) => <Row key={a.id} a={a} />)}</ul>
      )}
    </section>
  );
}
