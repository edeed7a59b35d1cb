// Ocr.tsx - the switch for pages and files that are pictures of text.
import { chooseLanguage, ocr, ocrInstalled, ocrLanguages, switchOcr } from '../ocr';
import { status } from '../state';

export function Ocr() {
  if (!status.value?.ocr) return null; // not known yet
  const { on, languages } = ocr.value;
  return (
    <div class="ocr">
      <label class="check tall">
        <input
          type="checkbox" id="read-pictures" checked={on} disabled={!ocrInstalled.value} aria-describedby="about-ocr"
          onChange={(e) => switchOcr(e.currentTarget.checked)}
        />
        <span>Read pictures of text (OCR)<span id="about-ocr" class="muted small hint">
          {ocrInstalled.value
            ? 'Scanned pages, PNG, JPEG and TIFF. It takes seconds a page, and may misread.'
            : 'The server has no tesseract for it (Debian: tesseract-ocr).'}
        </span></span>
      </label>
      {on && ocrLanguages.value.length > 1 && (
        <fieldset class="languages small">
          <legend class="muted">In these languages</legend>
          {ocrLanguages.value.map((l) => (
            <label key={l} class="check">
              <input
                type="checkbox" checked={languages.includes(l)} disabled={languages.length === 1 && languages[0] === l}
                onChange={(e) => chooseLanguage(l, e.currentTarget.checked)}
              />
              <span>{l}</span>
            </label>
          ))}
        </fieldset>
      )}
    </div>
  );
}
