// thread.ts - which answers belong together: a question may go on from an answer (its `follows`), also two from the same.
import type { Answer } from './types';

/** What an answer went on from, as far as it is known, the answer itself, and what goes on from it: always the newest. */
export function lineOf(a: Answer, known: Answer[]): Answer[] {
  const line = [a];
  for (let x: Answer | undefined = a; (x = known.find((y) => y.id === x?.follows)); ) line.unshift(x);
  // The list is newest first.
  for (let x: Answer | undefined = a; (x = known.find((y) => y.follows === x?.id)); ) line.push(x);
  return line;
}

/** Everything that follows an answer, or follows what does. */
export function following(a: Answer, known: Answer[]): Answer[] {
  return known.filter((x) => x.follows === a.id).flatMap((x) => [x, ...following(x, known)]);
}

/** Each question that follows none that is known, with all that follows it, oldest first; the conversation that was asked in
 * last stands first. */
export function threads(list: Answer[]): Answer[][] {
  const newest = (t: Answer[]) => t[t.length - 1].id;
  return list
    .filter((a) => !list.some((x) => x.id === a.follows))
    .map((a) => [a, ...following(a, list)].sort((x, y) => x.id - y.id))
    .sort((s, t) => newest(t) - newest(s));
}
