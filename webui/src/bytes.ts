// bytes.ts - the server counts bytes of UTF-8, JavaScript counts UTF-16 units; the two meet here.

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A text that can be cut at byte positions. `base` is where its first byte stands in the whole. */
export class ByteText {
  private readonly data: Uint8Array;

  constructor(text: string, readonly base = 0) {
    this.data = encoder.encode(text);
  }

  get end(): number {
    return this.base + this.data.length;
  }

  /** Text of [from, to), both clamped to what is here. */
  slice(from: number, to: number): string {
    const low = Math.max(0, from - this.base);
    return decoder.decode(this.data.subarray(low, Math.max(low, to - this.base)));
  }
}
