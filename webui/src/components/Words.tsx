// Words.tsx - the words of an answer as one stop of the Tab key: arrows go from word to word, hovering shows, a click
// or Enter keeps. Number -1 is the whole answer; the words of a thought come before those of the answer.
import { useRef } from 'preact/hooks';
import { memo } from '../memo';
import type { TraceWord } from '../types';

interface Props {
  words: TraceWord[];
  thought: number; /* so many of them, the first ones, are the thought's */
  pinned: number;
  onPin: (word: number) => void;
  onHover: (word: number | null) => void;
}

/* Drawn again when another word is kept, not for each that the pointer passes: there may be thousands. */
export const Words = memo<Props>(({ words, thought, pinned, onPin, onHover }) => {
  const bar = useRef<HTMLDivElement>(null);
  const go = (to: number) => {
    const word = Math.max(-1, Math.min(words.length - 1, to));
    onPin(word);
    bar.current?.querySelectorAll<HTMLButtonElement>('button')[word + 1]?.focus();
  };
  const key = (e: KeyboardEvent) => {
    const to = { ArrowRight: pinned + 1, ArrowDown: pinned + 1, ArrowLeft: pinned - 1, ArrowUp: pinned - 1, Home: -1, End: words.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    go(to);
  };
  const button = (i: number, label: string) => (
    <button
      type="button" key={i} class={i < 0 ? 'word whole' : 'word'} aria-pressed={pinned === i} tabIndex={pinned === i ? 0 : -1}
      onClick={() => onPin(i)} onPointerEnter={() => onHover(i)} onPointerLeave={() => onHover(null)}
    >
      {label}
    </button>
  );
  return (
    <div class="words" role="toolbar" aria-label="Words of the answer" ref={bar} onKeyDown={key}>
      {button(-1, thought > 0 ? 'Thought and answer' : 'Whole answer')}
      {thought > 0 && <span class="part">Thought:</span>}
      {words.slice(0, thought).map((w, i) => button(i, w.word))}
      {thought > 0 && <span class="part">Answer:</span>}
      {words.slice(thought).map((w, i) => button(thought + i, w.word))}
    </div>
  );
});
