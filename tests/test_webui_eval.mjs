// test_webui_eval.mjs - the page's evaluation runs, as steps of test_webui.mjs: started, watched, read, compared, kept as
// a file, stopped, gone on with, erased. `t` is that test's tools.
import fs from 'node:fs';
import path from 'node:path';
import { equal, ok, until } from './test_webui_check.mjs';

const QUESTIONS = [
  { name: 'harbour', source: 'sea', text: 'The harbour was built in 1871. It has two piers and a crane.', qas: [{ question: 'When was the harbour built?', answers: ['1871'] }] },
  { name: 'mill', source: 'land', text: 'The mill stands by the brook. Its wheel is of oak.', qas: [{ question: 'Where does the mill stand?', answers: ['by the brook'] }, { question: 'Who painted the mill?', answers: [] }] },
];

export async function evaluation(t) {
  const { step, api, axe, picture, noSideways, newPage, folder, base } = t;
  let page;
  const side = () => page.getByRole('button', { name: 'Evaluate', exact: true }).click();
  const begin = async () => {
    await side();
    await page.getByRole('button', { name: 'New run' }).click();
    await page.getByRole('heading', { name: 'What do you want to find out?' }).waitFor();
  };
  const estimate = () => page.locator('.estimate');
  const only = async (...lengths) => {
    for (const name of ['1K', '2K', '4K', '8K'])
      await page.getByRole('checkbox', { name, exact: true }).setChecked(lengths.includes(name));
  };
  const ended = () => until('the run has ended', async () => {
    const { run } = await api('status');
    return run && !run.active && run;
  }, 180000);
  /* Starts what the form says; the run, when it is over. */
  const startAndWait = async () => {
    const before = (await api('runs')).runs[0]?.id ?? 0;
    await page.getByRole('button', { name: 'Start the run' }).click();
    await until('there is a new run', async () => ((await api('runs')).runs[0]?.id ?? 0) > before, 60000);
    const now = await ended();
    ok(!now.message, `it ended well: ${now.message}`);
    const run = await api(`runs/${now.id}`);
    equal(run.done, run.cells, 'every question is answered');
    await page.locator(`article[aria-label="Run ${now.id}"]`).waitFor({ timeout: 30000 });
    await page.getByText(`${run.done} of ${run.cells} question`).first().waitFor();
    await page.locator('.grid').first().waitFor();
    return run;
  };

  await step('evaluation: the form is understood without knowing a benchmark, and says what a run takes', async () => {
    page = await newPage();
    await page.goto(base);
    await page.locator('.row').first().waitFor();
    await begin();
    for (const kind of ['one sentence in a long text', 'harder searches', 'my own questions', 'look at the right place', 'lost by selecting'])
      ok(await page.getByRole('radio', { name: new RegExp(kind) }).isVisible(), kind);
    await only('1K', '2K');
    await page.getByLabel('Places in the text').fill('3');
    await until('the estimate', async () => /^6 questions, 3,072 tokens to read/.test(await estimate().innerText()));
    await axe(page, 'with the form of a run');
    await only();
    await estimate().getByText('Choose a length.').waitFor();
    ok(await page.getByRole('button', { name: 'Start the run' }).isDisabled(), 'nothing can be started');
    await page.getByRole('radio', { name: /my own questions/ }).check();
    await only('1K');
    await estimate().getByText('Choose a file of questions.').waitFor();
    await page.getByLabel(/^File of questions/).setInputFiles({ name: 'bad.jsonl', mimeType: 'application/json', buffer: Buffer.from('{"name": "a"\n') });
    await page.getByRole('alert').getByText(/bad.jsonl, line 1/).waitFor();
    t.complaints.length = 0; // the browser itself reports a 400 on its console
    await axe(page, 'with a file that cannot be read');
    await page.getByRole('radio', { name: /harder searches/ }).check();
    await page.getByRole('checkbox', { name: /niah_single_1/ }).waitFor();
    ok(await page.getByRole('checkbox', { name: /qa_1/ }).isDisabled(), 'questions need a file');
    await axe(page, 'with the tasks of RULER');
    // A thought does not go with a begun answer, nor with what is compared.
    const think = page.getByRole('checkbox', { name: /^Think first.*kept with each answer/s });
    await think.check();
    await page.getByRole('checkbox', { name: /^Prompts exactly as published/ }).check();
    equal(await think.count(), 0, 'no thought before a begun answer');
    await page.getByRole('radio', { name: /lost by selecting/ }).check();
    equal(await think.count(), 0, 'no thought where answers are compared');
    await page.getByRole('radio', { name: /harder searches/ }).check();
    await page.getByRole('checkbox', { name: /^Prompts exactly as published/ }).uncheck();
    ok(await think.isChecked(), 'what was chosen is remembered');
    await think.uncheck();
    await picture(page, 'desktop-form-light');
  });

  let needle;
  await step('evaluation: a run fills its map, a cell opens to its question, verdict and place', async () => {
    await page.getByRole('radio', { name: /one sentence in a long text/ }).check();
    await only('1K', '2K');
    await page.getByLabel('Places in the text').fill('3');
    needle = await startAndWait();
    equal(needle.kind, 'needle', 'its kind');
    equal(await page.locator('.run-table').first().locator('td button').count(), 6, 'two lengths at three depths');
    const cell = page.locator('.run-table').first().locator('td button').last();
    const value = await cell.locator('.value').innerText();
    ok(/^\d+$/.test(value), 'a cell says its figure');
    equal(await page.getByRole('button', { name: new RegExp(`^2K, 100%: ${value} .*n=1`) }).first().textContent(), await cell.textContent(), 'and what it is of');
    await cell.click();
    const r = needle.results.at(-1).result;
    const shown = await page.locator('.cell-questions').innerText();
    for (const part of [r.question, r.expected[0], r.answer, r.verdict]) ok(shown.includes(part), `the cell shows ${part}`);
    ok(/stands at token [\d,]+ to [\d,]+ of/.test(shown) && /rank/.test(shown), 'where it stands, and its rank');
    await page.getByText('Needle in a haystack, published').waitFor();
    equal(await page.locator('tr.ours').count(), 1, 'ours stands beside what is published');
    await axe(page, 'with a run');
    await picture(page, 'desktop-run-light');
    await page.reload();
    await page.locator(`article[aria-label="Run ${needle.id}"] .grid`).first().waitFor();
    ok(page.url().endsWith(`#/runs/${needle.id}`), 'it has an address');
  });

  await step('evaluation: a sentence of one\'s own', async () => {
    await begin();
    await only('1K');
    await page.getByLabel('Places in the text').fill('2');
    await page.getByRole('checkbox', { name: 'Hide a sentence of my own' }).check();
    await page.getByLabel('The sentence', { exact: true }).fill('The cook of the lighthouse is Ada.');
    await page.getByLabel('The question', { exact: true }).fill('Who is the cook of the lighthouse?');
    await page.getByLabel(/The right answer/).fill('Ada');
    const run = await startAndWait();
    ok(run.results.every((c) => c.result.question === 'Who is the cook of the lighthouse?' && c.result.expected[0] === 'Ada'), 'it was asked');
  });

  await step('evaluation: questions from a file, by the position of their source; they go with their run', async () => {
    await begin();
    await only('1K');
    await page.getByRole('radio', { name: /my own questions/ }).check();
    const file = path.join(folder, 'mine.jsonl');
    fs.writeFileSync(file, QUESTIONS.map((q) => JSON.stringify(q)).join('\n'));
    await page.getByLabel(/^File of questions/).setInputFiles(file);
    await page.getByText('mine.jsonl: 2 passages, 3 questions.').waitFor();
    await page.getByLabel('Passages of').selectOption('land');
    await until('the estimate follows', async () => /^2 questions/.test(await estimate().innerText()));
    await page.getByLabel('Passages of').selectOption('');
    const run = await startAndWait();
    equal(run.cells, 3, 'every question once');
    await page.getByText('Token F1 by position of the source').first().waitFor();
    await axe(page, 'with a run of questions');
    await page.getByRole('button', { name: `Erase this run (${run.id})` }).click();
    await page.locator('.run').getByRole('button', { name: 'Erase', exact: true }).click();
    await page.getByText(`Erased run ${run.id}`).waitFor();
    equal((await fetch(`${base}/api/v1/runs/${run.id}`)).status, 404, 'it is gone');
  });

  await step('evaluation: questions asked as the page asks, with a thought; RULER as published', async () => {
    await begin();
    await page.getByRole('radio', { name: /my own questions/ }).check();
    await page.getByLabel(/^File of questions/).setInputFiles(path.join(folder, 'mine.jsonl'));
    await page.getByText('mine.jsonl: 2 passages, 3 questions.').waitFor();
    await page.getByRole('checkbox', { name: /^Ask as the page does/ }).check();
    equal(await page.getByRole('checkbox', { name: '1K', exact: true }).count(), 0, 'lengths play no part');
    equal(await page.getByLabel('Text around the answer').count(), 0, 'nor does surrounding text');
    await page.getByRole('checkbox', { name: /^Think first.*kept with each answer/s }).check();
    await until('the estimate: each question twice', async () => /^6 questions, \d+ tokens to read/.test(await estimate().innerText()));
    await axe(page, 'with questions asked as the page does');
    const run = await startAndWait();
    ok(run.parameters.as_ask && run.parameters.thinking, 'as it was chosen');
    equal(run.cells, 6, 'each question once of the best passages, once of everything');
    const table = page.locator('.run-table', { has: page.getByText(/^Asked, first look/).first() }).first();
    await table.locator('td button').first().click();
    const shown = page.locator('.cell-questions');
    equal(await shown.locator('li').count(), 3, 'the questions of one look');
    const thought = run.results.map((c) => c.result).find((r) => r.variant === 'first look' && r.thought.text)?.thought.text;
    if (thought) ok((await shown.innerText()).includes(thought), 'with their thoughts');
    await axe(page, 'with a run of questions as asked');
    await begin();
    await only('1K');
    await page.getByRole('radio', { name: /harder searches/ }).check();
    for (const box of await page.locator('.tasks input:enabled').all()) await box.uncheck();
    await page.getByRole('checkbox', { name: /niah_single_2/ }).check();
    await page.getByRole('checkbox', { name: /^Prompts exactly as published/ }).check();
    await page.getByLabel('Questions of each task').fill('1');
    const published = await startAndWait();
    for (const name of ['published', 'plain', 'answer_prefix']) ok(published.parameters[name], name);
  });

  await step('evaluation: recall as curves beside a keyword search, RULER by task, sparse beside dense', async () => {
    await begin();
    await only('1K', '2K');
    await page.getByRole('radio', { name: /look at the right place/ }).check();
    await page.getByLabel('Places in the text').fill('2');
    await startAndWait();
    ok((await page.locator('.curves svg[role=img]').count()) >= 2, 'curves');
    const title = await page.locator('.curves svg').first().getAttribute('aria-label');
    ok(/Recall.*the table above has the figures/.test(title), title);
    await page.getByText(/BM25: source among the first passages/).first().waitFor();
    await begin();
    await only('1K');
    await page.getByRole('radio', { name: /harder searches/ }).check();
    for (const box of await page.locator('.tasks input:enabled').all()) await box.uncheck();
    await page.getByRole('checkbox', { name: /niah_single_1/ }).check();
    await page.getByRole('checkbox', { name: /^vt/ }).check();
    await page.getByLabel('Questions of each task').fill('1');
    await startAndWait();
    await page.getByRole('rowheader', { name: 'niah_single_1' }).waitFor();
    await begin();
    await only('1K');
    await page.getByRole('radio', { name: /lost by selecting/ }).check();
    await page.getByLabel('Places in the text').fill('1');
    await page.getByLabel('Numbers of places to select').fill('64, 128');
    await startAndWait();
    for (const name of ['dense', 'k=64', 'k=128']) await page.getByRole('columnheader', { name, exact: true }).first().waitFor();
    await axe(page, 'with sparse beside dense');
  });

  await step('evaluation: stopped, gone on with; two compared; a report as a file', async () => {
    await begin();
    await page.getByRole('checkbox', { name: '16K', exact: true }).check();
    await page.getByLabel('Places in the text').fill('5');
    await page.getByRole('button', { name: 'Start the run' }).click();
    await page.locator('.run-now').waitFor();
    await until('a question is answered', async () => (await api('status')).run?.cells > 0, 120000);
    await page.locator('.run-now progress').waitFor();
    await page.locator('.run-table').first().locator('td button').first().waitFor();
    ok((await api('status')).run.active, 'the map is there before the run has ended');
    await axe(page, 'while a run is under way');
    await page.locator('.run-now').getByRole('button', { name: 'Stop' }).click();
    const now = await ended();
    const stopped = await api(`runs/${now.id}`);
    ok(stopped.done < stopped.cells, `it was stopped at ${stopped.done} of ${stopped.cells}`);
    await page.getByRole('button', { name: 'Go on with it' }).click();
    await until('it goes on', async () => (await api('status')).run?.active, 20000);
    await page.locator('.run-now').getByRole('button', { name: 'Stop' }).click();
    await ended();
    const runs = (await api('runs')).runs;
    const other = runs.find((r) => r.kind === 'needle' && r.id !== needle.id && r.id !== now.id);
    await page.getByRole('checkbox', { name: `Compare run ${needle.id}`, exact: true }).check();
    await page.getByRole('checkbox', { name: `Compare run ${now.id}`, exact: true }).check();
    await page.getByRole('button', { name: `Compare ${needle.id} and ${now.id}` }).click();
    await page.getByRole('heading', { name: `From run ${needle.id} to run ${now.id}` }).waitFor();
    ok(other && /figure/.test(await page.locator('.run').innerText()), 'what changed is counted');
    await axe(page, 'with two runs compared');
    await page.getByRole('button', { name: `Run ${needle.id}`, exact: true }).click();
    for (const [format, start] of [['HTML', '<!doctype html>'], ['CSV', 'cell,'], ['JSON', '{']]) {
      const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `${format} report` }).click()]);
      equal(file.suggestedFilename(), `pharos-run-${needle.id}.${format.toLowerCase()}`, 'its name');
      ok(fs.readFileSync(await file.path(), 'utf8').startsWith(start), `the ${format} report`);
    }
  });

  await step('evaluation: 360 pixels wide, dark: nothing scrolls sideways', async () => {
    const small = await newPage({ viewport: { width: 360, height: 740 }, colorScheme: 'dark', isMobile: true, hasTouch: true });
    await small.goto(`${base}/#/runs/${needle.id}`);
    await small.locator('.grid').first().waitFor();
    await noSideways(small, 'in a run');
    await axe(small, 'with a run in the narrow dark page');
    await picture(small, 'narrow-run-dark');
    await small.getByRole('button', { name: 'Evaluate', exact: true }).click();
    await small.getByRole('button', { name: 'New run' }).click();
    await small.getByRole('heading', { name: 'What do you want to find out?' }).waitFor();
    await noSideways(small, 'in the form');
    equal(await small.getByRole('button', { name: 'Evaluate', exact: true }).getAttribute('aria-current'), 'page', 'it is said where one is');
    await small.getByRole('radio', { name: /my own questions/ }).check();
    await small.getByRole('checkbox', { name: /^Ask as the page does/ }).check();
    await noSideways(small, 'in the form for questions of a file');
    await small.getByRole('button', { name: 'Ask', exact: true }).click();
    await small.getByRole('button', { name: 'Send' }).waitFor();
    await small.getByRole('button', { name: 'Evaluate', exact: true }).click();
    await small.getByRole('button', { name: 'New run' }).click();
    await axe(small, 'with the form in the narrow dark page');
    await picture(small, 'narrow-form-dark');
    await small.context().close();
  });
  await page.context().close();
}
