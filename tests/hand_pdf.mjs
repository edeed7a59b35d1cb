// hand_pdf.mjs - a PDF put together by hand: each object, then where each begins. The first is the catalogue. A string of
// one character a byte.
export function pdfFrom(objects) {
  let out = '%PDF-1.4\n';
  const starts = objects.map((o, i) => {
    const at = out.length;
    out += `${i + 1} 0 obj\n${o}\nendobj\n`;
    return at;
  });
  const table = out.length;
  out += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${starts.map((s) => `${String(s).padStart(10, '0')} 00000 n \n`).join('')}`;
  return `${out}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`;
}
