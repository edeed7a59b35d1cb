// assets.d.ts - what the bundler makes of these imports.
declare module '*?url' {
  const url: string;
  export default url;
}
declare module '*.css';
