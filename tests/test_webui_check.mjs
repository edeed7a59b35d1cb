// test_webui_check.mjs - the few checks that the browser tests are written in.

export function ok(condition, what) {
  if (!condition) throw new Error(`does not hold: ${what}`);
}

export function equal(is, wanted, what) {
  if (is !== wanted) throw new Error(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(wanted)}`);
}

/** Asks again and again; what it finally says. */
export async function until(what, ask, ms = 10000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await ask();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not come true in ${ms / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
