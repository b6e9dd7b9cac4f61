/** An element of the page's own markup. */
export function byId<T extends Element = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no element ${id}.`);
  return found as Element as T;
}

interface Properties {
  class?: string;
  text?: string;
  scope?: "row" | "col";
}

/** A new element. Text is always set as text: nothing on this page makes markup of a string. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  { class: className, text, scope }: Properties = {},
  ...children: Node[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  if (className !== undefined) element.className = className;
  if (text !== undefined) element.textContent = text;
  if (scope !== undefined) element.setAttribute("scope", scope);
  element.append(...children);
  return element;
}

/** Sets a text where it is another one: screen readers announce what is set. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
