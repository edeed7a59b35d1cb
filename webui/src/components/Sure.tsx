// Sure.tsx - asks before something is erased. The focus goes to the answer that harms nothing, and back to where it came
// from; where that goes away, to the heading of its list.
import { useEffect, useRef } from 'preact/hooks';

interface Props {
  children: string;
  onErase: () => void;
  onKeep: () => void;
}

export function Sure({ children, onErase, onKeep }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const keep = useRef<HTMLButtonElement>(null);
  useEffect(() => keep.current?.focus(), []);
  const back = () => {
    const holder = box.current?.closest('li, article');
    onKeep();
    requestAnimationFrame(() => holder?.querySelector<HTMLElement>('[data-erases]')?.focus());
  };
  const erase = () => {
    const heading = box.current?.closest('section, article')?.querySelector('h2');
    heading?.setAttribute('tabindex', '-1');
    heading?.focus({ preventScroll: true });
    onErase();
  };
  return (
    <div
      class="sure" role="group" aria-label={children} ref={box}
      onKeyDown={(e) => {
        if (e.key !== 'Escape') return;
        e.preventDefault();
        back();
      }}
    >
      <span>{children}</span>
      <button type="button" class="danger" onClick={erase}>Erase</button>
      <button type="button" ref={keep} onClick={back}>Keep</button>
    </div>
  );
}
