// Keys.tsx - the list of keys, and the switch for those that are a single character.
import { useEffect, useRef } from 'preact/hooks';
import { keysShown, singleKeys } from '../state';

const keys = [
  ['/', 'go to the question'],
  ['?', 'show this list'],
  ['N', 'begin a new question; while typing, Alt + N'],
  ['Enter', 'send the question'],
  ['Shift + Enter', 'break the line'],
  ['Esc', 'close the document, this list, or a quote'],
  ['Left, Right', 'in "What was read": the word before, the word after'],
  ['Home, End', 'in "What was read": the whole answer, the last word'],
] as const;

export function Keys() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const close = () => dialog.current?.close();
  return (
    <dialog ref={dialog} class="sheet" aria-labelledby="keys-title" onClose={() => (keysShown.value = false)}>
      <h2 id="keys-title">Keys</h2>
      <dl class="keys">
        {keys.map(([key, what]) => (
          <div key={key}>
            <dt><kbd>{key}</kbd></dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input
          type="checkbox"
          checked={singleKeys.value}
          onChange={(e) => (singleKeys.value = e.currentTarget.checked)}
        />
        <span>Keys of a single character (<kbd>/</kbd>, <kbd>?</kbd> and <kbd>N</kbd>) work</span>
      </label>
      <p class="end"><button type="button" onClick={close}>Close</button></p>
    </dialog>
  );
}
