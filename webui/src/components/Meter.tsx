// Meter.tsx - how much of each context is used, by which document, and how much is free.
import { capital, count, percent, plural, seconds } from '../format';
import { documents, mayManage, packs, readAgain, reading, status } from '../state';
import type { Pack } from '../types';
import { Icon } from './Icon';

function Bar({ pack, capacity, reserved, label }: { pack: Pack | null; capacity: number; reserved: number; label: string }) {
  const used = pack?.tokens ?? 0;
  const free = Math.max(0, capacity - reserved - used);
  const text = `${count(used)} of ${count(capacity)} tokens used, ${count(free)} free, ${count(reserved)} kept for question and answer`;
  return (
    <div class="context">
      <div
        class="bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={capacity} aria-valuenow={used}
        aria-valuetext={text}
      >
        {pack?.documents.map((d, i) => (
          <span
            key={i} class="share" title={`${d.document}: ${count(d.token_end - d.token_start)} tokens`}
            style={{ '--share': (d.token_end - d.token_start) / capacity }}
          />
        ))}
        <span class="kept" style={{ '--share': reserved / capacity }} />
      </div>
      <p class="muted small">
        {label}: {count(used)} of {count(capacity)} tokens used ({percent(used / capacity)}), {count(free)} free
      </p>
    </div>
  );
}

export function Meter() {
  const p = packs.value;
  if (!p || !p.capacity) return null;
  const many = p.packs.length > 1;
  return (
    <div class="meter">
      {p.packs.length === 0 && <Bar pack={null} capacity={p.capacity} reserved={p.reserved} label="Context" />}
      {p.packs.map((pack, i) => (
        <Bar
          key={pack.id} pack={pack} capacity={p.capacity} reserved={p.reserved}
          label={many ? `Context ${i + 1}` : 'Context'}
        />
      ))}
      <Reading />
      <CannotRead />
    </div>
  );
}

function CannotRead() {
  const why = status.value?.reading_failed;
  if (!why || reading.value) return null;
  return (
    <div class="small reason cannot-read">
      <p><Icon name="warn" /> The model could not read on. {capital(why)}. What waits is tried again from time to time.</p>
      {mayManage.value && <button type="button" onClick={() => void readAgain()}><Icon name="again" />Try now</button>}
    </div>
  );
}

function Reading() {
  const r = reading.value;
  if (!r || !r.total) return null;
  const left = r.rate > 0 ? (r.total - r.done) / r.rate : 0;
  // What comes after this pack.
  const waiting = documents.value.reduce((sum, d) => sum + d.tokens - d.tokens_read, 0) - (r.total - r.done);
  return (
    <p class="small">
      The model reads: {percent(r.done / r.total)}, {count(r.done)} of {count(r.total)} tokens
      {r.rate > 0 && `, ${count(r.rate)} a second`}
      {left >= 1 && `, about ${seconds(left)} left`}
      {r.cached > 0 && `; ${count(r.cached)} from cache`}
      {waiting > 1000 && r.rate > 0 && `. Then ${plural(waiting, 'more token')}: about ${seconds(waiting / r.rate)}`}
    </p>
  );
}
