// ocr.ts - whether pictures of text are read, and in which languages: as was chosen in this browser, else as the server
// was started.
import { computed, signal } from '@preact/signals';
import { status } from './state';

interface Choice {
  on: boolean;
  languages: string[];
}

const KEY = 'pharos.ocr';

function stored(): Choice | null {
  try {
    const c = JSON.parse(localStorage.getItem(KEY) ?? 'null') as Partial<Choice> | null;
    if (typeof c?.on !== 'boolean') return null;
    return { on: c.on, languages: Array.isArray(c.languages) ? c.languages.filter((l) => typeof l === 'string') : [] };
  } catch {
    return null;
  }
}
const choice = signal<Choice | null>(stored());
choice.subscribe((c) => c && localStorage.setItem(KEY, JSON.stringify(c)));

export const ocrInstalled = computed(() => status.value?.ocr?.installed === true && status.value.ocr.languages.length > 0);
export const ocrLanguages = computed(() => status.value?.ocr?.languages ?? []);

/** As it is now. At least one language is chosen where there are any. */
export const ocr = computed<Choice>(() => {
  const there = ocrLanguages.value;
  const usual = status.value?.ocr?.usual ?? '';
  const c = choice.value ?? { on: usual !== '', languages: usual ? usual.split('+') : [] };
  const languages = c.languages.filter((l) => there.includes(l));
  const least = there.includes('eng') ? 'eng' : there[0];
  return { on: c.on && ocrInstalled.value, languages: languages.length || !least ? languages : [least] };
});

/** What an upload says of it; undefined: the server's own way. */
export const ocrAsked = (): string | undefined =>
  choice.value && ocrInstalled.value ? (ocr.value.on ? ocr.value.languages.join('+') : '') : undefined;

export function switchOcr(on: boolean): void {
  choice.value = { ...ocr.value, on };
}

export function chooseLanguage(language: string, wanted: boolean): void {
  const others = ocr.value.languages.filter((l) => l !== language);
  choice.value = { ...ocr.value, languages: wanted ? [...others, language] : others };
}
