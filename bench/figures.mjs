// Options and figures that the benches share.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Prints rows of text as columns. */
export function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ");
  for (const row of rows) console.log(line(row).trimEnd());
}

/** The whole number that an option has; throws where it has another value. */
export function readCount(values, name) {
  const count = Number(values[name]);
  if (Number.isInteger(count) && count >= 1) return count;
  throw new Error(`Expected --${name} to be a whole number of at least 1, found ${values[name]}`);
}

/** The data type that an option names; throws where it names none. */
export function readDtype({ dtype }) {
  if (["fp16", "bf16", "fp32"].includes(dtype)) return dtype;
  throw new Error(`Expected --dtype to be fp16, bf16 or fp32, found ${dtype}`);
}
