/** What JSON.parse had against a text, with line and column: V8 gives a position with some of its messages only. */
export function describeJsonError(text: string, error: unknown): string {
  const message = (error as Error).message;
  const position = Math.min(positionIn(message) ?? findPosition(text), text.length);
  const before = text.slice(0, position).split("\n");
  const column = (before.at(-1) as string).length + 1;
  return `line ${before.length}, column ${column}: ${message.replace(/ in JSON at position \d+.*$/s, "").replace(/^(Unexpected token '.+?'), .*$/su, "$1")}`;
}

function positionIn(message: string): number | undefined {
  const match = /at position (\d+)/.exec(message);
  return match === null ? undefined : Number(match[1]);
}

/** The first character that no continuation could make valid: the shortest beginning that fails for more than its end. */
function findPosition(text: string): number {
  let good = 0;
  let bad = text.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (failsBeforeEnd(text.slice(0, middle))) bad = middle;
    else good = middle;
  }
  return bad - 1;
}

function failsBeforeEnd(text: string): boolean {
  try {
    JSON.parse(text);
    return false;
  } catch (error) {
    const { message } = error as Error;
    const position = positionIn(message);
    return position === undefined
      ? message.startsWith("Unexpected token")
      : position < text.length && !message.startsWith("Unterminated");
  }
}
