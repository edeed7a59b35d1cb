// marks.ts - where a cited span stands on its page: the rectangles that were stored when the document was read. Nothing is
// searched for, so the mark is where the text came from.
import { useEffect, useState } from 'preact/hooks';
import * as api from './api';
import { ByteText } from './bytes';
import type { PanelTarget } from './state';
import type { Segment } from './types';

export type Rect = [x0: number, y0: number, x1: number, y1: number];

/* Of a line that has a rectangle a word: the words of [from, to), as one rectangle. */
function within(s: Segment, text: ByteText, from: number, to: number): Rect[] {
  const encoder = new TextEncoder();
  const words = text.slice(s.start, s.end).split(/\s+/).filter(Boolean);
  if (s.rects.length < 2 || words.length !== s.rects.length) return s.rects;
  let at = s.start;
  const cited = s.rects.filter((_, i) => {
    const start = at;
    at += encoder.encode(words[i]).length + 1;
    return start < to && at - 1 > from;
  });
  if (!cited.length) return [];
  const side = (pick: (...v: number[]) => number, k: number) => pick(...cited.map((r) => r[k]));
  return [[side(Math.min, 0), side(Math.min, 1), side(Math.max, 2), side(Math.max, 3)]];
}

/** Rectangles of the target's span, by page. */
export function useMarks(target: PanelTarget): Map<number, Rect[]> {
  const [marks, setMarks] = useState<Map<number, Rect[]>>(new Map());
  const { document, start, end } = target;
  useEffect(() => {
    if (start === undefined || end === undefined) return;
    const stop = new AbortController();
    (async () => {
      const segments = await api.getSegments(document, start, end, stop.signal);
      if (!segments.length) return;
      const t = await api.getText(document, segments[0].start, segments[segments.length - 1].end, stop.signal);
      const text = new ByteText(t.text, t.start);
      const found = new Map<number, Rect[]>();
      for (const s of segments) if (s.page) found.set(s.page, [...(found.get(s.page) ?? []), ...within(s, text, start, end)]);
      setMarks(found);
    })().catch(() => undefined); // the page is shown without
    return () => stop.abort();
  }, [document, start, end]);
  return marks;
}
