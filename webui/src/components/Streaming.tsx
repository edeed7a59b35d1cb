// Streaming.tsx - an answer while it is written. What is long written is frozen in pieces that are not touched again,
// so that the thousandth word costs no more than the first.
import { memo } from '../memo';

const PIECE = 1500;

/* Cuts at spaces, and always at the same ones while the text grows. */
function pieces(text: string): string[] {
  const out: string[] = [];
  let from = 0;
  while (text.length - from > 2 * PIECE) {
    let to = text.lastIndexOf(' ', from + PIECE);
    if (to <= from) to = from + PIECE;
    out.push(text.slice(from, to));
    from = to;
  }
  out.push(text.slice(from));
  return out;
}

const Piece = memo<{ text: string }>(({ text }) => <span>{text}</span>);

export function Streaming({ text }: { text: string }) {
  return (
    <p class="answer-text streaming">
      {pieces(text).map((piece, i) => <Piece key={i} text={piece} />)}
    </p>
  );
}
