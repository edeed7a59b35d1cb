// Mark.tsx - the number of a citation in an answer: hover or focus shows the quote, a click opens the document.
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { place, verdictRead, verdictText } from '../format';
import type { Citation } from '../types';

interface Props {
  number: number;
  citation: Citation;
  said: boolean; /* the answer has the quoted words */
  onOpen: (c: Citation) => void;
}

export function Mark({ number, citation: c, said, onOpen }: Props) {
  const id = useId();
  const [shown, setShown] = useState(false);
  const tip = useRef<HTMLSpanElement>(null);
  // Esc puts the quote away without moving the pointer, and does nothing else then.
  useEffect(() => {
    if (!shown) return;
    const key = (e: KeyboardEvent) => {
      if (e.key !== 'Escape') return;
      e.preventDefault();
      e.stopPropagation();
      setShown(false);
    };
    window.addEventListener('keydown', key, true);
    return () => window.removeEventListener('keydown', key, true);
  }, [shown]);
  // Kept within the page, however near its edge the number stands: aside where it would leave it, below the number
  // where there is no room above.
  useLayoutEffect(() => {
    const t = tip.current;
    if (!shown || !t) return;
    const top = t.closest('.scroll')?.getBoundingClientRect().top ?? 0;
    t.classList.toggle('below', t.getBoundingClientRect().top < top);
    t.style.setProperty('--shift', '0px');
    const box = t.getBoundingClientRect();
    const room = document.documentElement.clientWidth - 8;
    const shift = box.right > room ? room - box.right : box.left < 8 ? 8 - box.left : 0;
    t.style.setProperty('--shift', `${shift}px`);
  }, [shown]);
  return (
    <span class="mark-holder" onPointerEnter={() => setShown(true)} onPointerLeave={() => setShown(false)}>
      <button
        type="button" class="mark" aria-label={`Citation ${number}: ${place(c)}`} aria-describedby={shown ? id : undefined}
        onFocus={() => setShown(true)} onBlur={() => setShown(false)}
        onClick={() => { setShown(false); onOpen(c); }}
      >
        {number}
      </button>
      {shown && (
        <span class="tip" role="tooltip" id={id} ref={tip}>
          <q>{c.quote}</q>
          <span>{place(c)}</span>
          <span>{verdictText(c, said)} {verdictRead(c)}</span>
        </span>
      )}
    </span>
  );
}
