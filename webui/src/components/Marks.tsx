// Marks.tsx - the cited span on top of a page; the first of its lines comes into view.
import { useEffect, useRef } from 'preact/hooks';
import type { Rect } from '../marks';

export interface Size {
  width: number; /* points, as the page is looked at */
  height: number;
}

export function Marks({ rects, size }: { rects: Rect[]; size: Size }) {
  const first = useRef<HTMLDivElement>(null);
  useEffect(() => first.current?.scrollIntoView({ block: 'center' }), [rects, size]);
  return (
    <>
      {rects.map(([x0, y0, x1, y1], i) => (
        <div
          key={i} ref={i === 0 ? first : undefined} class="rect"
          style={{ '--x': x0 / size.width, '--y': y0 / size.height, '--w': (x1 - x0) / size.width, '--h': (y1 - y0) / size.height }}
        />
      ))}
    </>
  );
}
