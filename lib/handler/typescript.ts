/**
 * Whether this Node loads TypeScript: it does from 22.18 on, and some older ones where they are told to.
 *
 * @returns Why it does not load a handler's file, as a clause that says what to do; undefined where it does.
 */
export function whyNotLoadable(file: string): string | undefined {
  if (!/\.m?ts$/.test(file)) return undefined;
  // Types of Node 20 know nothing of it.
  const { typescript } = process.features as { typescript?: string | false };
  return typescript ? undefined : describeMissingTypeScript();
}

/** The same where loading has failed for that reason. */
export function describeMissingTypeScript(): string {
  return `Node ${process.versions.node} reads no TypeScript: use Node 22.18 or newer, or compile it to .mjs`;
}
