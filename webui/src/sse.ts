// sse.ts - reads a response as server-sent events. EventSource cannot POST or be stopped half way, hence fetch.

export interface ServerEvent {
  name: string;
  data: string;
}

/** Yields each event as it is complete; comments and fields that nobody uses are dropped. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let name = '';
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      // A lone CR at the end may be half of a CRLF: it waits for what comes next.
      const lines = rest.split(done ? /\r\n|\r|\n/ : /\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === '') {
          if (data.length) yield { name: name || 'message', data: data.join('\n') };
          name = '';
          data = [];
          continue;
        }
        const colon = line.indexOf(':');
        if (colon === 0) continue;
        const field = colon < 0 ? line : line.slice(0, colon);
        const value_ = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (field === 'event') name = value_;
        else if (field === 'data') data.push(value_);
      }
      if (done) return;
    }
  } finally {
    // Leaving early closes the connection, which is how the server learns that nobody waits any more.
    reader.cancel().catch(() => undefined);
  }
}
