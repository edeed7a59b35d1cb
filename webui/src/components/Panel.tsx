// Panel.tsx - a document beside the answer, opened at the cited span. Its text is shown as text: what looks like
// markup in it stays as it was written.
import type { ComponentType } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { ByteText } from '../bytes';
import { bytes, count, plural } from '../format';
import { closePanel, documents, type PanelTarget } from '../state';
import type { Segment } from '../types';
import { Icon } from './Icon';
import { PictureView } from './PictureView';

const AROUND = 12000; /* bytes of text shown before and after the span */
const MORE = 40000;

interface Stretch {
  text: ByteText;
  total: number;
  segments: Segment[];
}

async function load(id: number, start: number, end: number, signal: AbortSignal): Promise<Stretch> {
  const [stretch, segments] = await Promise.all([
    api.getText(id, Math.max(0, start), end, signal),
    api.getSegments(id, Math.max(0, start), end, signal),
  ]);
  return { text: new ByteText(stretch.text, stretch.start), total: stretch.total, segments };
}

/* Where each page begins within the stretch. */
function pageStarts(segments: Segment[]): Map<number, number> {
  const out = new Map<number, number>();
  let page = 0;
  for (const s of segments) {
    if (s.page && s.page !== page) out.set(s.start, s.page);
    page = s.page ?? page;
  }
  return out;
}

function Body({ s, target }: { s: Stretch; target: PanelTarget }) {
  const mark = useRef<HTMLElement>(null);
  useEffect(() => mark.current?.scrollIntoView({ block: 'center' }), []);
  const pages = pageStarts(s.segments);
  const start = target.start ?? -1;
  const end = target.end ?? -1;
  const cuts = [...pages.keys(), start, end].filter((at) => at > s.text.base && at < s.text.end);
  const edges = [...new Set([s.text.base, ...cuts, s.text.end])].sort((a, b) => a - b);
  let first = true;
  return (
    <div class="document-text">
      {edges.slice(0, -1).map((from, i) => {
        const text = s.text.slice(from, edges[i + 1]);
        const page = pages.get(from) ?? (i === 0 ? [...pages].filter(([at]) => at <= from).pop()?.[1] : undefined);
        const inside = from >= start && from < end;
        const ref = inside && first ? mark : undefined;
        if (inside) first = false;
        return (
          <>
            {page !== undefined && <span class="page-number">Page {page}</span>}
            {inside ? <mark ref={ref}>{text}</mark> : text}
          </>
        );
      })}
    </div>
  );
}

type PdfComponent = ComponentType<{ target: PanelTarget; onFail: (message: string) => void }>;

/* A page or picture as it looks, or its text as it was read. */
function Ways({ asPage, onChoose }: { asPage: boolean; onChoose: (asPage: boolean) => void }) {
  return (
    <div class="ways" role="group" aria-label="Show the document as">
      <button type="button" aria-pressed={asPage} onClick={() => onChoose(true)}>Page</button>
      <button type="button" aria-pressed={!asPage} onClick={() => onChoose(false)}>Text</button>
    </div>
  );
}

export function Panel({ target }: { target: PanelTarget }) {
  const d = documents.value.find((x) => x.id === target.document);
  const title = useRef<HTMLHeadingElement>(null);
  const [range, setRange] = useState(() => ({
    start: Math.max(0, (target.start ?? 0) - AROUND),
    end: (target.end ?? 0) + AROUND,
  }));
  const [stretch, setStretch] = useState<Stretch | null>(null);
  const [failed, setFailed] = useState('');
  const isPdf = /^application\/pdf(\+gzip)?$/.test(d?.media_type ?? '') && d !== undefined && d.pages > 0;
  const isPicture = /^image\/(png|jpeg)$/.test(d?.media_type ?? '');
  const [asPage, setAsPage] = useState(isPdf || isPicture);
  const [pdfFailed, setPdfFailed] = useState('');
  const [Pdf, setPdf] = useState<PdfComponent | null>(null);
  useEffect(() => {
    if (asPage && isPdf && !Pdf) import('./PdfView').then((m) => setPdf(() => m.PdfView), () => noPage('This part of the page could not be loaded'));
  }, [asPage]);
  const noPage = (message: string) => {
    setPdfFailed(message);
    setAsPage(false);
  };
  useEffect(() => title.current?.focus({ preventScroll: true }), []);
  useEffect(() => {
    const stop = new AbortController();
    load(target.document, range.start, range.end, stop.signal).then(setStretch, (error: Error) => {
      if (!stop.signal.aborted) setFailed(error.message);
    });
    return () => stop.abort();
  }, [range.start, range.end]);
  return (
    <aside class="panel" aria-labelledby="panel-title">
      <header>
        <div>
          <h2 id="panel-title" ref={title} tabIndex={-1}>{target.name}</h2>
          <p class="muted small">
            {target.page ? `Page ${target.page}` : ''}
            {target.page && d?.pages ? ` of ${d.pages}` : ''}
            {!target.page && d ? (d.pages ? plural(d.pages, 'page') : bytes(d.bytes)) : ''}
            {stretch ? ` · ${bytes(stretch.total)} of text` : ''}
          </p>
        </div>
        {(isPdf || isPicture) && !pdfFailed && <Ways asPage={asPage} onChoose={setAsPage} />}
        <Original id={target.document} name={target.name} />
        <button type="button" class="quiet" aria-label="Close the document" title="Close (Esc)" onClick={closePanel}>
          <Icon name="close" />
        </button>
      </header>
      <div class="panel-body" tabIndex={0} role="region" aria-label={`${asPage ? 'Page' : 'Text'} of ${target.name}`}>
        {pdfFailed && <p class="caution"><Icon name="warn" />The page cannot be shown as it looks ({pdfFailed}); this is its text.</p>}
        {asPage && isPicture && d && <PictureView target={target} type={d.media_type} onFail={noPage} />}
        {asPage && isPdf && (Pdf ? <Pdf target={target} onFail={noPage} /> : <p class="muted">Loading the page</p>)}
        {failed && <p class="failure"><Icon name="warn" />{failed}</p>}
        {!asPage && !failed && !stretch && <p class="muted">Loading</p>}
        {!asPage && stretch && (
          <>
            {stretch.text.base > 0 && (
              <button type="button" onClick={() => setRange({ start: Math.max(0, stretch.text.base - MORE), end: range.end })}>
                Show the {count(Math.min(MORE, stretch.text.base))} bytes before
              </button>
            )}
            <Body s={stretch} target={target} />
            {stretch.text.end < stretch.total && (
              <button type="button" onClick={() => setRange({ start: range.start, end: stretch.text.end + MORE })}>
                Show more of the text
              </button>
            )}
          </>
        )}
      </div>
    </aside>
  );
}

/* The file as it was given. Through fetch, because a link could not carry the token that a server may ask for. */
function Original({ id, name }: { id: number; name: string }) {
  const [failed, setFailed] = useState('');
  const save = async () => {
    try {
      const url = URL.createObjectURL(await api.getFile(id));
      const link = document.createElement('a');
      link.href = url;
      link.download = name.split('/').pop() || 'document';
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return <button type="button" title={failed || 'Save the original file'} onClick={() => void save()}>{failed ? 'No original' : 'Original'}</button>;
}
