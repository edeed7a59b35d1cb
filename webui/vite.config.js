// The server's policy allows no inline script or style and no data: URL, so nothing is inlined here.
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/',
  // What `npm run dev` talks to; the server checks Host and Origin, so both are made its own.
  server: {
    proxy: {
      '^/(api|health)': {
        target: process.env.PHAROS || 'http://127.0.0.1:7878',
        changeOrigin: true,
        headers: { origin: process.env.PHAROS || 'http://127.0.0.1:7878' },
      },
    },
  },
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    target: 'es2021',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
});
