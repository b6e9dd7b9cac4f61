import type { Readable } from "node:stream";

/** A longer line is passed on in pieces, so that output without any line end does not fill the memory. */
const longestLine = 16 * 2 ** 20;
const lineEnd = "\n".charCodeAt(0);

/**
 * The lines of a source, without their line ends, each as soon as it is whole, some at a time. What comes after the last line end becomes a
 * line at the end of the source. The source is read no faster than the lines are taken, and is closed where no more are.
 *
 * @param onWait Told whether the source is waited for, so that one which will never end can be told from one whose reader is slow.
 */
export async function* readLines(
  source: Readable,
  onWait: (waits: boolean) => void = () => {},
): AsyncGenerator<Buffer[]> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  const takeRest = (end: Buffer) => {
    const line = rest.length === 0 ? end : Buffer.concat([...rest, end]);
    rest = [];
    restBytes = 0;
    return line;
  };
  onWait(true);
  for await (const chunk of source as AsyncIterable<Buffer>) {
    onWait(false);
    const lines: Buffer[] = [];
    let from = 0;
    for (let end = chunk.indexOf(lineEnd); end >= 0; end = chunk.indexOf(lineEnd, from)) {
      lines.push(takeRest(chunk.subarray(from, end)));
      from = end + 1;
    }
    if (from < chunk.length) {
      rest.push(chunk.subarray(from));
      restBytes += chunk.length - from;
    }
    if (restBytes >= longestLine) lines.push(takeRest(Buffer.alloc(0)));
    if (lines.length > 0) yield lines;
    onWait(true);
  }
  onWait(false);
  if (rest.length > 0) yield [takeRest(Buffer.alloc(0))];
}
