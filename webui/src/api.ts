// api.ts - every request that the page makes. Nothing else calls fetch.
import { events } from './sse';
import type {
  Answer, Job, Packs, PharosDocument, Progress, QuestionFile, Reading, Receipt, Run, RunDiff, RunEstimate, RunRequest,
  Segment, Status, TextStretch, Trace,
} from './types';

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

/* The token of a server that asks for one: kept for this tab only. */
const TOKEN = 'pharos.token';

export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN, token);
}

function authorization(): Record<string, string> {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

function errorFrom(status: number, body: string, retryAfter: string | null): ApiError {
  let message = '';
  let code = 'failed';
  try {
    const error = JSON.parse(body).error;
    message = String(error.message ?? '');
    code = String(error.code ?? code);
  } catch {
    // A proxy's page, or nothing at all: the status says what there is to say.
  }
  if (!message) message = status ? `The server answered with status ${status}` : 'Pharos cannot be reached';
  return new ApiError(message, status, code, Number(retryAfter) || 0);
}

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = authorization();
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: 'no-store',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw errorFrom(0, '', null);
  }
  if (!response.ok) throw errorFrom(response.status, await response.text(), response.headers.get('retry-after'));
  return response;
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  return (await send(method, path, body, signal)).json() as Promise<T>;
}

export const getStatus = () => call<Status>('GET', '/api/v1/status');
export const getDocuments = async () =>
  (await call<{ documents: PharosDocument[] }>('GET', '/api/v1/documents')).documents;
export const getJobs = () => call<{ jobs: Job[]; reading: Reading | null }>('GET', '/api/v1/jobs');
export const getPacks = () => call<Packs>('GET', '/api/v1/packs');
export const readPacks = () => call<{ queued: boolean }>('POST', '/api/v1/packs/read');
export const getAnswers = async () =>
  (await call<{ answers: Answer[] }>('GET', '/api/v1/answers?limit=200')).answers;
export const getAnswer = (id: number) => call<Answer>('GET', `/api/v1/answers/${id}`);
export const deleteAnswer = (id: number) => call<Receipt>('DELETE', `/api/v1/answers/${id}`);
export const deleteDocument = (id: number) => call<Receipt>('DELETE', `/api/v1/documents/${id}`);
export const dismissJob = (id: number) => call<Job>('DELETE', `/api/v1/jobs/${id}`);
export const addUrl = (url: string, ocr?: string) => call<Job>('POST', '/api/v1/documents/url', { url, ocr });
export const getText = (id: number, start: number, end: number, signal?: AbortSignal) =>
  call<TextStretch>('GET', `/api/v1/documents/${id}/text?start=${start}&end=${end}`, undefined, signal);
export const getSegments = async (id: number, start: number, end: number, signal?: AbortSignal) =>
  (
    await call<{ segments: Segment[] }>(
      'GET', `/api/v1/documents/${id}/segments?start=${start}&end=${end}`, undefined, signal,
    )
  ).segments;
export const getTrace = (id: number, layer: number | null, signal?: AbortSignal) =>
  call<Trace>(
    'GET', `/api/v1/answers/${id}/trace?sentences=24${layer === null ? '' : `&layer=${layer}`}`, undefined, signal,
  );
export const getFile = async (id: number, signal?: AbortSignal) =>
  (await send('GET', `/api/v1/documents/${id}/file`, undefined, signal)).blob();

export const getRuns = async () => (await call<{ runs: Run[] }>('GET', '/api/v1/runs')).runs;
export const getRun = (id: number) => call<Run>('GET', `/api/v1/runs/${id}`);
export const startRun = (r: RunRequest) => call<{ queued: boolean }>('POST', '/api/v1/runs', r);
export const estimateRun = (r: RunRequest, signal?: AbortSignal) =>
  call<RunEstimate>('POST', '/api/v1/runs/estimate', r, signal);
export const stopRun = () => call<{ stopping: boolean }>('POST', '/api/v1/runs/stop', {});
export const resumeRun = (id: number) => call<{ queued: boolean }>('POST', `/api/v1/runs/${id}/resume`, {});
export const getDiff = (a: number, b: number) => call<RunDiff>('GET', `/api/v1/runs/${a}/diff/${b}`);
export const getReport = async (id: number, format: string) =>
  (await send('GET', `/api/v1/runs/${id}/report?format=${format}`)).blob();
export const deleteRun = (id: number) => call<{ runs: number }>('DELETE', `/api/v1/runs/${id}`);

/* A file's raw bytes. XMLHttpRequest, because fetch does not tell how much has been sent. */
function put<T>(path: string, file: File, progress: (share: number) => void, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('PUT', path);
    for (const [key, value] of Object.entries(authorization())) request.setRequestHeader(key, value);
    request.setRequestHeader('content-type', 'application/octet-stream');
    request.upload.onprogress = (e) => e.lengthComputable && progress(e.total ? e.loaded / e.total : 1);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as T);
      else reject(errorFrom(request.status, request.responseText, request.getResponseHeader('retry-after')));
    };
    request.onerror = () => reject(errorFrom(0, '', null));
    request.onabort = () => reject(new ApiError('Stopped', 0, 'interrupted'));
    signal.addEventListener('abort', () => request.abort());
    request.send(file);
  });
}

/** ocr: languages in which pictures are read, "" = they are not; undefined: as the server does. */
export const upload = (
  file: File, name: string, ocr: string | undefined, progress: (share: number) => void, signal: AbortSignal,
) => {
  const more = ocr === undefined ? '' : `&ocr=${encodeURIComponent(ocr)}`;
  return put<Job>(`/api/v1/documents?name=${encodeURIComponent(name)}${more}`, file, progress, signal);
};
export const uploadQuestions = (file: File, progress: (share: number) => void, signal: AbortSignal) =>
  put<QuestionFile>(`/api/v1/runs/questions?name=${encodeURIComponent(file.name)}`, file, progress, signal);

/** How a question is to be answered. What is absent is as the server has it. */
export interface AskOptions {
  documents?: number[]; /* from these only */
  thinking?: boolean;
  whole?: boolean;
  packs?: number;
  follows?: number; /* the answer that the question goes on from */
}

export interface AskEvents {
  queue(place: number): void;
  progress(p: Progress): void;
  thought(text: string): void;
  token(text: string): void;
  restart(reason: string): void;
}

/** Asks and follows the answer. Aborting the signal closes the connection, and the server stops computing. */
export async function ask(question: string, options: AskOptions, on: AskEvents, signal: AbortSignal): Promise<Answer> {
  const response = await send('POST', '/api/v1/ask', { question, ...options, stream: true }, signal);
  if (!response.body) throw new ApiError('The answer came without a body', response.status, 'failed');
  for await (const event of events(response.body)) {
    const data = JSON.parse(event.data);
    if (event.name === 'queue') on.queue(data.place);
    else if (event.name === 'progress') on.progress(data as Progress);
    else if (event.name === 'thought') on.thought(String(data.text));
    else if (event.name === 'token') on.token(String(data.text));
    else if (event.name === 'restart') on.restart(String(data.reason ?? ''));
    else if (event.name === 'done') return data as Answer;
    else if (event.name === 'error')
      throw new ApiError(String(data.error?.message ?? 'The question failed'), 200, String(data.error?.code ?? 'failed'));
  }
  throw new ApiError('The connection ended before the answer did', 0, 'interrupted');
}
