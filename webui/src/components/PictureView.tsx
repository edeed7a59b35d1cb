// PictureView.tsx - a document that is a picture, with the cited words marked. A pixel is a point.
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api';
import { useMarks } from '../marks';
import type { PanelTarget } from '../state';
import { Marks, type Size } from './Marks';

interface Props {
  target: PanelTarget;
  type: string; /* image/png or image/jpeg, as the server found it */
  onFail: (message: string) => void;
}

export function PictureView({ target, type, onFail }: Props) {
  const [url, setUrl] = useState('');
  const [size, setSize] = useState<Size | null>(null);
  const rects = useMarks(target).get(1) ?? [];
  useEffect(() => {
    const stop = new AbortController();
    let made = '';
    api.getFile(target.document, stop.signal).then(
      (file) => setUrl((made = URL.createObjectURL(new Blob([file], { type })))),
      (error: Error) => !stop.signal.aborted && onFail(error.message),
    );
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [target.document]);
  if (!url) return <p class="muted">Loading the picture</p>;
  return (
    <div class="pdf">
      <div class="sheet-of-pdf">
        <img
          src={url} alt={`${target.name}, as a picture. Its text is under Text.`}
          onLoad={(e) => setSize({ width: e.currentTarget.naturalWidth, height: e.currentTarget.naturalHeight })}
          onError={() => onFail('this browser does not draw it')}
        />
        {size && <Marks rects={rects} size={size} />}
      </div>
    </div>
  );
}
