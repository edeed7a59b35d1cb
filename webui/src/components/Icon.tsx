// Icon.tsx - the few drawn signs of the page. Always beside words or inside a labelled control, so hidden from
// screen readers.

const paths = {
  close: 'M5 5l10 10M15 5L5 15',
  bin: 'M4 6h12M8 6V4h4v2M6 6l.8 10h6.400L14 6M8.500 9v4.500M11.500 9v4.500',
  copy: 'M7 7h9v9H7zM4 13V4h9',
  add: 'M10 4v12M4 10h12',
  send: 'M10 16V4M5 9l5-5 5 5',
  stop: 'M6 6h8v8H6z',
  check: 'M4 10.500l4 4 8-9',
  cross: 'M5 5l10 10M15 5L5 15',
  wait: 'M10 3a7 7 0 1 0 .01 0M10 6v4l3 2',
  again: 'M15.500 7A6 6 0 1 0 16 11M16 3v4h-4',
  warn: 'M10 3l7.500 13.500h-15zM10 8v4M10 14v.5',
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}

export function Lighthouse({ lit }: { lit: boolean }) {
  return (
    <svg class={lit ? 'lighthouse lit' : 'lighthouse'} viewBox="0 0 48 32" aria-hidden="true" focusable="false">
      <path class="beam" d="M22 9 0 3v12zM26 9l22-6v12z" />
      <path class="tower" d="M22 12h4l2.500 16h-9z" />
      <path class="band" d="M21.300 17h5.400l.6 4h-6.600z" />
      <path class="lamp" d="M21.500 7.500 24 5l2.500 2.500V12h-5z" />
      <path class="rock" d="M15 28h18v2H15z" />
    </svg>
  );
}
