// memo.ts - a component that is drawn again only when its properties have changed.
import { Component, type ComponentType, type FunctionComponent, h } from 'preact';

export function memo<P extends object>(render: FunctionComponent<P>): ComponentType<P> {
  return class extends Component<P> {
    shouldComponentUpdate(next: P): boolean {
      return (Object.keys(next) as (keyof P)[]).some((key) => next[key] !== this.props[key]);
    }
    render() {
      return h(render, this.props as P);
    }
  } as unknown as ComponentType<P>;
}
