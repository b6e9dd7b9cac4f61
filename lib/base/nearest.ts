/** The key that a misspelled one was most likely meant to be; undefined when none is near. */
export function nearestKey(found: string, known: Iterable<string>): string | undefined {
  const plain = (key: string) => key.replace(/[_-]/g, "").toLowerCase();
  const target = plain(found);
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const key of known) {
    const candidate = plain(key);
    // A word left out ("maxTokens") is further away in letters than it is in meaning.
    const distance =
      isSubsequence(target, candidate) || isSubsequence(candidate, target) ? 1 : editDistance(target, candidate);
    if (distance < bestDistance && distance <= Math.max(1, Math.floor(candidate.length / 3))) {
      best = key;
      bestDistance = distance;
    }
    if (target === candidate) return key;
  }
  return best;
}

function isSubsequence(short: string, long: string): boolean {
  if (short.length * 2 < long.length || short.length > long.length) return false;
  let i = 0;
  for (const letter of long) if (letter === short[i]) i++;
  return i === short.length;
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (last[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min(replace, (last[j] as number) + 1, (row[j - 1] as number) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforeLast[j - 2] as number) + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] as number;
}

/** What to do about a name that is not among the known ones. */
export function adviseName(found: string, known: readonly string[]): string {
  const near = nearestKey(found, known);
  return near === undefined ? `Known are: ${known.join(", ")}` : `Did you mean ${near}?`;
}
