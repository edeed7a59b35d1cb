// lazy.tsx - a part of the page that is fetched when it is wanted first: most visits end at an answer.
import type { ComponentType, FunctionComponent } from 'preact';
import { useEffect, useState } from 'preact/hooks';

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): FunctionComponent<P> {
  let View: ComponentType<P> | undefined;
  return (props) => {
    const [text, setText] = useState('Loading');
    useEffect(() => {
      if (View) return;
      load().then(
        (v) => {
          View = v;
          setText('');
        },
        () => setText('This part of the page could not be loaded.'),
      );
    }, []);
    return View ? <View {...props} /> : <p class="muted">{text}</p>;
  };
}
