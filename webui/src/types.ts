// types.ts - what the server sends, as appliance/openapi.json describes it. Ranges are bytes of UTF-8.

export interface PharosDocument {
  id: number;
  name: string;
  source: string;
  media_type: string;
  title: string;
  warning: string;
  picture_pages: string;
  ocr?: string; /* languages in which its pictures were looked at for text */
  bytes: number;
  text_bytes: number;
  pages: number;
  added_at: number;
  state: 'packing' | 'waiting' | 'prefilling' | 'ready';
  tokens: number;
  tokens_read: number;
  packs?: number[];
}

export interface Job {
  id: number;
  kind: 'file' | 'url' | 'watched';
  name: string;
  state: 'queued' | 'fetching' | 'reading' | 'done' | 'known' | 'failed' | 'stopped' | 'removed';
  done: number;
  total: number;
  unit: string;
  bytes?: number;
  detail: string;
  ocr?: string; /* languages in which its pictures are read */
  document: number | null;
  added_at?: number;
}

export interface Reading {
  pack: number;
  done: number;
  total: number;
  cached: number;
  rate: number;
}

export interface PackItem {
  document_id: number;
  document: string;
  token_start: number;
  token_end: number;
  start: number;
  end: number;
  part: number;
  parts: number;
}

export interface Pack {
  id: number;
  tokens: number;
  read: number;
  documents: PackItem[];
}

export interface Packs {
  capacity: number;
  reserved: number;
  packs: Pack[];
  waiting: { document_id: number; document: string }[];
}

export type Receipt = Record<string, number>;

export interface Citation {
  document: string;
  document_id: number;
  page: number | null;
  start: number;
  end: number;
  quote: string;
  in_text: boolean;
  in_read_set: boolean | null; // null: nobody knows
  mass: number;
  lift: number;
}

export interface Sentence {
  document: string;
  document_id: number;
  start: number;
  end: number;
  sentence: string;
  mass: number;
  lift: number;
}

/** An answer as it comes at the end of a question, or (with less in it) from the history. */
export interface Answer {
  id: number;
  question: string;
  answer: string;
  found: boolean;
  citations: Citation[];
  read_set?: Sentence[];
  usage?: { prompt_tokens: number; cached_tokens: number; completion_tokens: number };
  timing?: { prefill_ms: number; first_token_ms: number; total_ms: number };
  pack?: number | null;
  packs_asked?: number;
  packs?: number;
  confidence?: number;
  model?: string;
  note?: string | null;
  cut_off?: boolean;
  passages?: number | null; /* it was looked for in so many passages; 0: in everything; null: not known */
  thought?: string | null; /* what was written before the answer */
  asked_at?: number;
  follows?: number | null; /* the answer that the question went on from */
  turns?: number; /* how many earlier exchanges were sent along with it */
  turns_left_out?: number; /* and how many still earlier ones were not */
}

export type Strip = [bin: number, mass: number][];

export interface TraceWord {
  word: string;
  start: number;
  end: number;
  probability?: number;
  on_documents?: number;
  strip?: Strip;
  read_set?: Sentence[];
}

export interface Trace {
  answer: number;
  missing: string | null;
  layers?: number;
  layer?: number | null;
  kept_per_layer?: number;
  capacity?: number;
  bin_tokens?: number;
  bins?: number;
  pack?: number;
  tokens_in_pack?: number;
  map?: {
    document_id: number;
    document: string;
    token_start: number;
    token_end: number;
    text_token_start: number;
    text_token_end: number;
    start: number;
    end: number;
  }[];
  strip?: Strip;
  read_set?: Sentence[];
  words?: TraceWord[];
  thought?: { text: string; words: TraceWord[] } | null;
}

export interface TextStretch {
  document: number;
  start: number;
  end: number;
  total: number;
  text: string;
}

export interface Segment {
  start: number;
  end: number;
  page: number | null;
  rects: [number, number, number, number][];
}

export interface Status {
  version: string;
  state: 'loading' | 'ready' | 'failed';
  message: string;
  model: string | null;
  remote?: boolean; /* served elsewhere: what is asked and read is sent there */
  context: { capacity: number; reserved: number; packs: number; tokens: number; read: number; free: number; selected?: number };
  queue: { waiting: number; capacity: number; busy: string | null; jobs: number };
  reading: Reading | null;
  reading_failed?: string | null;
  run?: RunNow | null;
  ocr?: { installed: boolean; languages: string[]; usual: string };
  watch?: { folders: string[]; message: string } | null;
  thinking?: { able: boolean; usual: boolean } | null;
  limits?: { upload_bytes: number; question_bytes: number; max_tokens: number };
  token_required?: boolean;
  role?: 'ask' | 'manage';
}

/** A figure with its number of samples and, for a share, Wilson's interval. */
export interface Figure {
  mean: number;
  n: number;
  low?: number;
  high?: number;
}

export interface SummaryTable {
  title: string;
  note: string;
  rows: string; /* what they are: length, task, layer */
  columns: string; /* depth, length, figure, positions, k, measure */
  unit: '%' | '';
  row_names: string[];
  column_names: string[];
  values: (Figure | null)[][];
}

export interface Published {
  title: string;
  source: string;
  columns: string[];
  rows: { name: string; values: string[] }[];
}

/** An evaluation run; from `results` on when one is asked for. */
export interface Run {
  id: number;
  kind: string;
  command: string;
  parameters?: Record<string, unknown> | null;
  model: string;
  seed: number;
  started_at: number;
  updated_at: number;
  cells: number;
  done: number;
  state: 'unfinished' | 'done' | 'failed';
  note: string;
  results?: { number: number; result: RunResult | null }[];
  more?: boolean;
  summary?: { tables: SummaryTable[]; verdicts: { verdict: string; cells: number }[] };
  published?: Published[];
  protocol?: string[];
}

/** Rank, share of the span's tokens that were selected, attention mass. */
export type Sight = [rank: number, share: number, mass: number];

export interface RunResult {
  task: string;
  length: number;
  depth: number; /* percent of the haystack, below 0 = has none */
  variant: string;
  question: string;
  expected: string[];
  answer: string;
  score: number;
  right: boolean;
  verdict: string;
  detail: string;
  prompt_tokens: number;
  span?: [number, number]; /* tokens of the prompt */
  read_rank?: number;
  bm25_rank?: number;
  trace?: { held: boolean; first: Sight[]; layers: Sight[] };
  thought?: { text: string; tokens: number };
  cited?: boolean; /* asked as a question is: the source is among the citations */
}

/** The run under way, or why the last one ended. */
export interface RunNow {
  active: boolean;
  id: number | null;
  cells: number;
  all: number;
  tokens: number;
  all_tokens: number;
  what: string;
  seconds_left: number | null;
  message: string;
}

export interface RunRequest {
  kind: string;
  [name: string]: unknown;
}

export interface RunEstimate {
  cells: number;
  haystacks: number;
  tokens: number;
  rate: number | null;
  seconds: number | null;
}

export interface QuestionFile {
  id: number;
  name: string;
  passages: number;
  questions: number;
  sources: string[];
}

export interface RunDiff {
  a: number;
  b: number;
  figures: { table: string; row: string; column: string; a: Figure; b: Figure; change: number; apart: boolean }[];
  cells: {
    cell: number; question: string; a: string; b: string; score_a: number; score_b: number; verdict_a: string; verdict_b: string;
  }[];
}

export interface Progress {
  phase: 'reading' | 'asking' | 'writing';
  done: number;
  total: number;
  cached: number;
  rate?: number;
  seconds_left?: number | null;
}
