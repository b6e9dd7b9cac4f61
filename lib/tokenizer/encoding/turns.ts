/** Who waits for a turn, in the order in which they came. */
const waiting: (() => void)[] = [];

/**
 * Resolves in a later turn of the event loop, for one caller a turn: however many texts are encoded at once, no more than one slice of work
 * stands between two turns.
 */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length === 1) setImmediate(giveTurn);
  });
}

function giveTurn(): void {
  const first = waiting.shift();
  if (waiting.length > 0) setImmediate(giveTurn);
  first?.();
}
