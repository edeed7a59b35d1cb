// test_webui_ocr.mjs - scanned pages on the page, as steps of test_webui.mjs: the switch, reading them, a citation marked on
// the picture of the page. `t` is that test's tools. Left out, saying so, where the server has no tesseract.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pdfFrom } from './hand_pdf.mjs';
import { equal, ok, until } from './test_webui_check.mjs';

/* A PDF of one page that is this JPEG and nothing else. */
function pdfOfPicture(jpeg, width, height) {
  const content = 'q 500 0 0 700 0 0 cm /I Do Q';
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Count 1 /Kids [3 0 R] >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 500 700] /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>',
    `<< /Length ${content.length} >>\nstream\n${content}\nendstream`,
    `<< /Type /XObject /Subtype /Image /Width ${width} /Height ${height} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode /Length ${jpeg.length} >>\nstream\n${jpeg.toString('latin1')}\nendstream`,
  ];
  return Buffer.from(pdfFrom(objects), 'latin1');
}

export async function ocr(t) {
  const { step, api, axe, picture, newPage, folder, base, pdfOf, row, ready, ask } = t;
  if (!(await api('status')).ocr.installed) {
    console.log('left out: scanned pages (there is no tesseract)');
    return;
  }
  const dir = path.join(folder, 'scans');
  fs.mkdirSync(dir);
  const at = (name) => path.join(dir, name);
  fs.writeFileSync(at('plain.pdf'), pdfOf(['The pilot of the harbour boat is Solveig Aasen.']));
  const draw = (format, as) => execFileSync('/usr/bin/pdftoppm', ['-r', '150', '-singlefile', format, at('plain.pdf'), at(as)]);
  draw('-jpeg', 'scan');
  draw('-png', 'photo');
  const [width, height] = [Math.ceil((500 * 150) / 72), Math.ceil((700 * 150) / 72)];
  fs.writeFileSync(at('scan.pdf'), pdfOfPicture(fs.readFileSync(at('scan.jpg')), width, height));

  let page;
  const clear = async (name) => {
    await row(page, name).getByRole('button', { name: `Erase ${name}` }).click();
    await row(page, name).getByRole('button', { name: 'Erase', exact: true }).click();
    await row(page, name).waitFor({ state: 'detached', timeout: 60000 });
  };

  await step('a scan is refused without OCR, and read with it by one click', async () => {
    page = await newPage();
    await page.goto(base);
    const box = page.getByRole('checkbox', { name: /^Read pictures of text/ });
    await box.waitFor();
    ok(!(await box.isChecked()), 'the switch is as the server was started');
    await page.setInputFiles('#pick-files', at('scan.pdf'));
    await row(page, 'scan.pdf').getByText(/without OCR/).waitFor({ timeout: 60000 });
    await row(page, 'scan.pdf').getByRole('button', { name: 'Read its pictures with OCR' }).click();
    await ready(page, 'scan.pdf');
    ok(await box.isChecked(), 'the switch is on from there');
    await row(page, 'scan.pdf').getByText(/1 page read by OCR \(eng\)/).waitFor();
    await axe(page, 'with the switch of OCR');
  });

  await step('a citation of a scan is marked on the picture of its page, by its words', async () => {
    await ask('Who is the pilot of the harbour boat?', page);
    const c = (await api('answers?limit=1')).answers[0].citations[0];
    ok(c?.document === 'scan.pdf' && c.page === 1, `the citation is on the scan: ${JSON.stringify(c)}`);
    await page.locator('.mark').first().click();
    await page.getByText('Page 1 of 1', { exact: true }).waitFor();
    const mark = page.locator('.rect').first();
    await mark.waitFor();
    // The line has a rectangle a word; those of the cited words are one mark.
    const { segments } = await api(`documents/${c.document_id}/segments?start=${c.start}&end=${c.end}`);
    const { text } = await api(`documents/${c.document_id}/text?start=${segments[0].start}&end=${segments[0].end}`);
    const words = text.split(' ');
    equal(segments[0].rects.length, words.length, 'rectangles of the line');
    const first = text.slice(0, c.start - segments[0].start).split(' ').length - 1;
    const cited = segments[0].rects.slice(first, first + c.quote.trim().split(/\s+/).length);
    const sheet = await page.locator('.sheet-of-pdf canvas').boundingBox();
    const box = await mark.boundingBox();
    const near = (is, wanted, what) => ok(Math.abs(is - wanted) < 6, `${what}: ${is} is near ${wanted}`);
    near(box.x - sheet.x, (cited[0][0] / 500) * sheet.width, 'left');
    near(box.x + box.width - sheet.x, (cited.at(-1)[2] / 500) * sheet.width, 'right');
    near(box.y - sheet.y, (Math.min(...cited.map((r) => r[1])) / 700) * sheet.height, 'top');
    await until('ink under the mark', () => page.locator('.sheet-of-pdf canvas').evaluate((canvas, r) => {
      const scale = canvas.width / 500;
      const data = canvas.getContext('2d').getImageData(r[0] * scale, r[1] * scale, (r[2] - r[0]) * scale, (r[3] - r[1]) * scale).data;
      return data.some((v, i) => i % 4 === 0 && v < 100);
    }, cited[0]));
    await picture(page, 'desktop-scan-light');
    await page.keyboard.press('Escape');
    await clear('scan.pdf');
  });

  await step('a file that is a picture is shown with its words marked', async () => {
    await page.setInputFiles('#pick-files', at('photo.png'));
    await ready(page, 'photo.png');
    await ask('Who is the pilot of the harbour boat?', page);
    await page.locator('.mark').first().click();
    const shown = page.locator('.sheet-of-pdf img');
    await shown.waitFor();
    await until('it is drawn', () => shown.evaluate((i) => i.complete && i.naturalWidth > 0));
    equal(await shown.evaluate((i) => i.naturalWidth), width, 'pixels of its width');
    await page.locator('.rect').first().waitFor();
    const c = (await api('answers?limit=1')).answers[0].citations[0];
    const { segments } = await api(`documents/${c.document_id}/segments?start=${c.start}&end=${c.end}`);
    const top = Math.min(...segments[0].rects.map((r) => r[1]));
    ok(top > 100 && top < height, `places are in pixels: ${top}`);
    await axe(page, 'with a picture');
    await page.keyboard.press('Escape');
    await clear('photo.png');
    await page.context().close();
  });
}
