// PdfView.tsx - a page of a PDF as it looks, with the cited span marked by the rectangles that were stored when the
// document was read: nothing is searched for, so the mark is where the text came from. Loaded on demand.
import { useEffect, useRef, useState } from 'preact/hooks';
import { getDocument, GlobalWorkerOptions, type PDFDocumentProxy } from 'pdfjs-dist';
import workerUrl from 'pdfjs-dist/build/pdf.worker.min.mjs?url';
import * as api from '../api';
import { useMarks } from '../marks';
import type { PanelTarget } from '../state';
import { Marks, type Size } from './Marks';

GlobalWorkerOptions.workerSrc = workerUrl;

const MOST_BYTES = 1 << 30; /* that a compressed file may become */

/* The file's bytes; of a .pdf.gz those within. */
async function bytesOf(id: number, signal: AbortSignal): Promise<ArrayBuffer> {
  const file = await api.getFile(id, signal);
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (head[0] !== 0x1f || head[1] !== 0x8b) return file.arrayBuffer();
  let n = 0;
  const bounded = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, out) {
      n += piece.length;
      if (n > MOST_BYTES) throw new Error('it is too large when it is unpacked');
      out.enqueue(piece);
    },
  });
  return new Response(file.stream().pipeThrough(new DecompressionStream('gzip')).pipeThrough(bounded)).arrayBuffer();
}

function usePdf(id: number, fail: (message: string) => void): PDFDocumentProxy | null {
  const [pdf, setPdf] = useState<PDFDocumentProxy | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    let task: ReturnType<typeof getDocument> | null = null;
    (async () => {
      const data = await bytesOf(id, stop.signal);
      if (stop.signal.aborted) return;
      // Nothing is evaluated or compiled from the file, and nothing further is fetched for it.
      task = getDocument({ data, useWasm: false, enableXfa: false, stopAtErrors: false, verbosity: 0 });
      setPdf(await task.promise);
    })().catch((error: Error) => !stop.signal.aborted && fail(error.message));
    return () => {
      stop.abort();
      void task?.destroy();
    };
  }, [id]);
  return pdf;
}

interface Props {
  target: PanelTarget;
  onFail: (message: string) => void;
}

export function PdfView({ target, onFail }: Props) {
  const pdf = usePdf(target.document, onFail);
  const [page, setPage] = useState(target.page ?? 1);
  const [size, setSize] = useState<Size | null>(null);
  const marks = useMarks(target);
  const canvas = useRef<HTMLCanvasElement>(null);

  useEffect(() => {
    if (!pdf) return;
    let stopped = false;
    let drawing: { cancel(): void } | null = null;
    (async () => {
      const p = await pdf.getPage(page);
      const c = canvas.current;
      if (stopped || !c) return;
      const natural = p.getViewport({ scale: 1 });
      const width = c.parentElement?.clientWidth || 600;
      const viewport = p.getViewport({ scale: (width / natural.width) * Math.min(2, window.devicePixelRatio || 1) });
      c.width = viewport.width;
      c.height = viewport.height;
      setSize({ width: natural.width, height: natural.height });
      const render = p.render({ canvas: c, viewport });
      drawing = render;
      await render.promise;
    })().catch((error: Error) => !stopped && onFail(error.message));
    return () => {
      stopped = true;
      drawing?.cancel();
    };
  }, [pdf, page]);

  const rects = marks.get(page) ?? [];

  if (!pdf) return <p class="muted">Loading the page</p>;
  return (
    <div class="pdf">
      <div class="pager">
        <button type="button" disabled={page <= 1} aria-label="Page before" onClick={() => setPage(page - 1)}>Before</button>
        <span>Page {page} of {pdf.numPages}</span>
        <button type="button" disabled={page >= pdf.numPages} aria-label="Next page" onClick={() => setPage(page + 1)}>Next</button>
      </div>
      <div class="sheet-of-pdf">
        <canvas ref={canvas} role="img" aria-label={`Page ${page} of ${target.name}, as a picture. Its text is under Text.`} />
        {size && <Marks rects={rects} size={size} />}
      </div>
      {target.page !== page && rects.length === 0 && target.page && (
        <p><button type="button" onClick={() => setPage(target.page ?? 1)}>Back to the cited page</button></p>
      )}
    </div>
  );
}
