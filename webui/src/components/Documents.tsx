// Documents.tsx - adding documents, how each is doing, what it takes of the context, and which are asked.
import { useRef, useState } from 'preact/hooks';
import { fromList } from '../drop';
import { bytes, count, plural } from '../format';
import {
  addAddress, addFiles, documents, excluded, include, jobs, loaded, mayManage, sources, status, uploads,
} from '../state';
import { DocumentRow, JobRow, UploadRow } from './DocumentRow';
import { Meter } from './Meter';
import { Ocr } from './Ocr';

function Add() {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const [address, setAddress] = useState('');
  const take = (e: { currentTarget: HTMLInputElement }) => {
    addFiles(fromList(e.currentTarget.files));
    e.currentTarget.value = ''; // or the same file chosen again would be no change
  };
  return (
    <div class="add">
      <p class="muted">Drop files or folders anywhere, or</p>
      <div class="buttons">
        <button type="button" class="primary" onClick={() => files.current?.click()}>Choose files</button>
        <button type="button" onClick={() => folder.current?.click()}>A folder</button>
      </div>
      <input ref={files} id="pick-files" type="file" multiple hidden aria-label="Files to add" onChange={take} />
      <input
        ref={folder} id="pick-folder" type="file" hidden aria-label="Folder to add" onChange={take}
        {...{ webkitdirectory: true }}
      />
      <Ocr />
      <details>
        <summary>Add a page from the web</summary>
        <form
          class="address"
          onSubmit={async (e) => {
            e.preventDefault();
            if (await addAddress(address.trim())) setAddress('');
          }}
        >
          <label class="unseen" for="address">Address</label>
          <input
            id="address" type="url" required placeholder="https://" value={address}
            onInput={(e) => setAddress(e.currentTarget.value)}
          />
          <button type="submit">Add</button>
        </form>
      </details>
    </div>
  );
}

function Watched() {
  const w = status.value?.watch;
  if (!w?.folders.length) return null;
  return (
    <div class="watched small">
      <p class="muted">Kept equal to {w.folders.length === 1 ? 'a folder' : plural(w.folders.length, 'folder')}:</p>
      <ul>{w.folders.map((f) => <li key={f}><code>{f}</code></li>)}</ul>
      {w.message && <p class="reason">{w.message}</p>}
    </div>
  );
}

function AllSources() {
  const ids = documents.value.map((d) => d.id);
  const n = sources.value.length;
  return (
    <label class="check all">
      <input
        type="checkbox"
        checked={n === ids.length}
        ref={(box) => {
          if (box) box.indeterminate = n > 0 && n < ids.length;
        }}
        onChange={(e) => include(ids, e.currentTarget.checked)}
      />
      <span>{n === ids.length ? `All ${plural(n, 'document')} are asked` : `${count(n)} of ${plural(ids.length, 'document')} are asked`}</span>
    </label>
  );
}

export function Documents() {
  const list = documents.value;
  // A job that is done is a document by now; one whose document is listed already would be there twice.
  const open = jobs.value.filter((j) => j.state !== 'done');
  const total = list.reduce((sum, d) => sum + d.text_bytes, 0);
  return (
    <section class="documents" aria-labelledby="documents-title">
      <div class="head">
        <h2 id="documents-title">
          {list.length ? plural(list.length, 'document') : 'No documents yet'}
        </h2>
        {list.length > 0 && <span class="muted small">{bytes(total)} of text</span>}
      </div>
      {mayManage.value && <Add />}
      <Watched />
      <Meter />
      {list.length > 1 && <AllSources />}
      {list.length + open.length + uploads.value.length > 0 ? (
        <ul class="rows">
          {uploads.value.map((u) => <UploadRow key={`u${u.key}`} u={u} />)}
          {open.map((j) => <JobRow key={`j${j.id}`} j={j} />)}
          {list.map((d) => <DocumentRow key={`d${d.id}`} d={d} asked={!excluded.value.has(d.id)} />)}
        </ul>
      ) : (
        loaded.value && (
          <p class="muted what-is-read">
            PDF, Word, Excel, PowerPoint, OpenDocument, EPUB, HTML, Markdown, text and source code, and pictures of text with
            OCR. Each is read whole.
          </p>
        )
      )}
    </section>
  );
}
