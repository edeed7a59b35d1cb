// DocumentRow.tsx - one line of the list: a document, a file that the server reads, or one that is being sent.
// Names and details come out of files that anybody may have made: they are text here and nothing else.
import { useState } from 'preact/hooks';
import { bytes, capital, count, percent, plural } from '../format';
import {
  canRetry, dismiss, eraseDocument, include, mayManage, openPanel, packs, removeUpload, retryJob, retryUpload, retryWithOcr, status,
  type Upload,
} from '../state';
import { ocrInstalled } from '../ocr';
import type { Job, PharosDocument } from '../types';
import { Icon, type IconName } from './Icon';
import { Sure } from './Sure';

function Badge({ icon, kind, children }: { icon: IconName; kind: 'good' | 'busy' | 'bad'; children: string }) {
  return (
    <span class={`badge ${kind}`}>
      <Icon name={icon} />
      {children}
    </span>
  );
}

function Advance({ share, label }: { share: number; label: string }) {
  return <progress class="advance" value={share} max={1} aria-label={label} />;
}

function documentState(d: PharosDocument) {
  const share = d.tokens ? d.tokens_read / d.tokens : 0;
  switch (d.state) {
    case 'packing':
      return <Badge icon="wait" kind="busy">Finding its place in a context</Badge>;
    case 'waiting':
      return <Badge icon="wait" kind="busy">Waits for the model to read it</Badge>;
    case 'prefilling':
      return (
        <>
          <Badge icon="wait" kind="busy">{`The model reads it: ${percent(share)}`}</Badge>
          <Advance share={share} label={`${d.name}: read by the model`} />
        </>
      );
    case 'ready':
      return <Badge icon="check" kind="good">Ready</Badge>;
  }
}

const BYTES_OF_A_TOKEN = 4;

function facts(d: PharosDocument): string {
  const parts: string[] = [];
  if (d.pages) parts.push(plural(d.pages, 'page'));
  if (d.tokens) {
    const capacity = packs.value?.capacity;
    parts.push(`${plural(d.tokens, 'token')}${capacity ? `, ${percent(d.tokens / capacity)} of a context` : ''}`);
  } else {
    // Counted when its place is found; until then what such a length usually comes to.
    const about = d.text_bytes / BYTES_OF_A_TOKEN;
    const capacity = packs.value?.capacity ?? Infinity;
    parts.push(`${bytes(d.text_bytes)} of text`);
    if (about > capacity) parts.push(`about ${count(Math.ceil(about / capacity))} contexts`);
  }
  if (d.packs && d.packs.length > 1) parts.push(`spans ${plural(d.packs.length, 'context')}`);
  return parts.join(' · ');
}

export function DocumentRow({ d, asked }: { d: PharosDocument; asked: boolean }) {
  const [sure, setSure] = useState(false);
  return (
    <li class="row">
      <input
        type="checkbox" checked={asked} aria-label={`Ask ${d.name}`} title="Ask this document"
        onChange={(e) => include([d.id], e.currentTarget.checked)}
      />
      <div class="what">
        <button type="button" class="name" title={d.name} onClick={() => openPanel({ document: d.id, name: d.name })}>
          {d.name}
        </button>
        <p class="muted small">{facts(d)}</p>
        <div class="small">{documentState(d)}</div>
        {d.picture_pages && (
          <p class="small caution">
            <Icon name="warn" />
            {d.ocr ? 'Only pictures, OCR found no text' : 'Only pictures, not read'}: {/[,-]/.test(d.picture_pages) ? 'pages' : 'page'} {d.picture_pages}
            {!d.ocr && ocrInstalled.value && mayManage.value && '. To read them, add the file again with the switch above.'}
          </p>
        )}
        {d.warning && <p class="small caution"><Icon name="warn" />{d.warning}</p>}
        {sure && (
          <Sure onErase={() => { setSure(false); void eraseDocument(d); }} onKeep={() => setSure(false)}>
            Erase it everywhere, with the answers that were read from it?
          </Sure>
        )}
      </div>
      {!sure && mayManage.value && (
        <button type="button" class="quiet" data-erases aria-label={`Erase ${d.name}`} title="Erase" onClick={() => setSure(true)}>
          <Icon name="bin" />
        </button>
      )}
    </li>
  );
}

function jobText(j: Job): string {
  switch (j.state) {
    case 'queued':
      return 'Waits for its turn';
    case 'fetching':
      return j.total ? `Fetching: ${bytes(j.done)} of ${bytes(j.total)}` : `Fetching: ${bytes(j.done)}`;
    case 'reading':
      if (!j.done && !j.total) return 'Reading';
      if (j.total && j.done >= j.total) return 'Read; its words are stored for the search';
      if (j.unit === 'pages') return j.total ? `Reading page ${count(j.done + 1)} of ${count(j.total)}` : `Reading page ${count(j.done + 1)}`;
      return j.total ? `Reading: ${percent(j.done / j.total)}` : 'Reading';
    case 'known':
      return 'Here already, nothing was stored';
    case 'failed':
      return 'Could not be read';
    case 'stopped':
      return 'Stopped';
    case 'removed':
      return 'Erased';
    case 'done':
      return 'Read';
  }
}

export function JobRow({ j }: { j: Job }) {
  const folder = j.kind === 'watched' && status.value?.watch?.folders.includes(j.name) === true;
  const bad = j.state === 'failed' && !folder;
  const pictures = bad && !j.ocr && ocrInstalled.value && /OCR/.test(j.detail) && canRetry(j) && mayManage.value;
  const ended = bad || j.state === 'known' || j.state === 'stopped' || j.state === 'removed';
  return (
    <li class="row">
      <div class="what">
        <span class="name" title={j.name}>{j.name}</span>
        <div class="small">
          <Badge icon={bad ? 'cross' : ended ? 'check' : 'wait'} kind={bad ? 'bad' : ended ? 'good' : 'busy'}>{folder ? 'Watched' : jobText(j)}</Badge>
          {j.total > 0 && !ended && <Advance share={j.done / j.total} label={`${j.name}: read`} />}
        </div>
        {j.detail && <p class={bad ? 'small reason' : 'small muted'}>{capital(j.detail)}</p>}
        {pictures && <button type="button" onClick={() => void retryWithOcr(j)}>Read its pictures with OCR</button>}
        {j.kind === 'watched' && !folder && <p class="small muted">From a watched folder{bad && ': it is tried again when it changes'}</p>}
        {bad && j.kind !== 'watched' && !canRetry(j) && <p class="small muted">To try again, add the file again.</p>}
      </div>
      {bad && canRetry(j) && (
        <button type="button" class="quiet" aria-label={`Try ${j.name} again`} title="Try again" onClick={() => void retryJob(j)}>
          <Icon name="again" />
        </button>
      )}
      {mayManage.value && <button
        type="button" class="quiet" aria-label={ended ? `Put ${j.name} away` : `Stop reading ${j.name}`}
        title={ended ? 'Put away' : 'Stop'} onClick={() => void dismiss(j)}
      >
        <Icon name="close" />
      </button>}
    </li>
  );
}

export function UploadRow({ u }: { u: Upload }) {
  return (
    <li class="row">
      <div class="what">
        <span class="name" title={u.name}>{u.name}</span>
        <div class="small">
          {u.error ? (
            <Badge icon="cross" kind="bad">Not sent</Badge>
          ) : (
            <>
              <Badge icon="wait" kind="busy">{u.share < 0 ? 'Waits to be sent' : `Sending: ${percent(u.share)}`}</Badge>
              {u.share >= 0 && <Advance share={u.share} label={`${u.name}: sent`} />}
            </>
          )}
        </div>
        {u.error && <p class="small reason">{u.error}</p>}
      </div>
      {u.error && (
        <button type="button" class="quiet" aria-label={`Send ${u.name} again`} title="Try again" onClick={() => retryUpload(u.key)}>
          <Icon name="again" />
        </button>
      )}
      <button
        type="button" class="quiet" aria-label={u.error ? `Put ${u.name} away` : `Stop sending ${u.name}`}
        title={u.error ? 'Put away' : 'Stop'} onClick={() => removeUpload(u.key)}
      >
        <Icon name="close" />
      </button>
    </li>
  );
}
