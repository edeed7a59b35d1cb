// main.tsx - puts the page up.
import { render } from 'preact';
import { App } from './components/App';
import { start } from './state';
import './styles/base.css';
import './styles/layout.css';
import './styles/documents.css';
import './styles/answer.css';
import './styles/panel.css';

render(<App />, document.getElementById('app')!);
void start();
