// Token.tsx - asks for the token of a server that wants one.
import { useEffect, useRef, useState } from 'preact/hooks';
import { useToken as tryToken } from '../state';

export function Token() {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState('');
  const [refused, setRefused] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="sheet" aria-labelledby="token-title" onCancel={(e) => e.preventDefault()}>
      <form
        onSubmit={async (e) => {
          e.preventDefault();
          await tryToken(text.trim());
          setRefused(true);
        }}
      >
        <h2 id="token-title">This server asks for a token</h2>
        <label class="field">
          <span>Token</span>
          <input
            type="password"
            autocomplete="off"
            required
            value={text}
            aria-describedby="token-note"
            onInput={(e) => setText(e.currentTarget.value)}
          />
        </label>
        <p id="token-note" class={refused ? 'failure' : 'muted'} role={refused ? 'alert' : undefined}>
          {refused
            ? 'That token was refused. Who runs this server makes one with: pharos token add NAME'
            : 'It is kept in this tab until it is closed.'}
        </p>
        <p class="end"><button type="submit" class="primary">Go on</button></p>
      </form>
    </dialog>
  );
}
