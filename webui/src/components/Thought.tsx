// Thought.tsx - what the model wrote before its answer, folded: its own words, which cite nothing.
import { thoughtOpen } from '../state';

export function Thought({ text }: { text: string }) {
  return (
    <details class="thought" open={thoughtOpen.value} onToggle={(e) => (thoughtOpen.value = e.currentTarget.open)}>
      <summary>Thought first, in the model’s own words</summary>
      <blockquote>{text}</blockquote>
      <p class="muted small">
        Written before the answer, which is from it. It is no citation: those are listed below, checked against the documents.
      </p>
    </details>
  );
}
