// Makes the README's pictures: node webui/screenshots.mjs build/pharos
// Starts the program on a temporary library of licences that every Debian has, asks a question in a real browser, and
// writes webui/screenshots/*.png.
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const pharos = resolve(process.argv[2] ?? 'build/pharos');
const out = join(dirname(fileURLToPath(import.meta.url)), 'screenshots');
const data = mkdtempSync(join(tmpdir(), 'pharos-shots-'));
const licences = ['GPL-3', 'Apache-2.0'].map((name) => `/usr/share/common-licenses/${name}`);

execFileSync(pharos, ['add', '--quiet', '--data', data, ...licences], { stdio: 'inherit' });
const port = 7900 + Math.floor(Math.random() * 90);
const server = spawn(pharos, ['serve', '--quiet', '--data', data, '--port', String(port)], { stdio: 'inherit' });
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

async function shoot(name, options, steps) {
  const page = await browser.newPage(options);
  for (let tries = 0; ; tries++) {
    try {
      await page.goto(`http://127.0.0.1:${port}/`);
      break;
    } catch (error) {
      if (tries === 40) throw error;
      await page.waitForTimeout(250);
    }
  }
  await steps(page);
  await page.screenshot({ path: join(out, `${name}.png`) });
  await page.close();
}

/* A run of its own; the map of length and depth that it fills. */
async function evaluate(page) {
  await page.getByRole('button', { name: 'Evaluate', exact: true }).click();
  await page.getByRole('button', { name: 'New run' }).click();
  await page.getByRole('button', { name: 'Start the run' }).click();
  const cell = page.locator('.run-table').first().locator('td button');
  await page.locator('.run > p', { hasText: /^44 of 44 questions/ }).waitFor({ timeout: 300000 });
  await page.locator('.run-now').waitFor({ state: 'detached' });
  const missed = cell.filter({ has: page.locator('.value', { hasText: /^0$/ }) });
  await ((await missed.count()) ? missed : cell).last().click(); // the longest text
  await page.mouse.move(0, 0);
}

async function ask(page) {
  const box = page.locator('textarea');
  await box.fill('When was the WIPO copyright treaty adopted?');
  await box.press('Enter');
  await page.getByText('Where it stands').waitFor({ timeout: 60000 });
}

try {
  mkdirSync(out, { recursive: true });
  await shoot('ask', { viewport: { width: 1280, height: 1120 } }, async (page) => {
    await ask(page);
    await page.getByText('What was read').click();
    await page.waitForTimeout(1500);
  });
  await shoot('evaluate', { viewport: { width: 1280, height: 860 } }, evaluate);
  await shoot('narrow-dark', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' }, ask);
} finally {
  await browser.close();
  server.kill('SIGINT');
  await new Promise((done) => server.once('exit', done));
  rmSync(data, { recursive: true });
}
