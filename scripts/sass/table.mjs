// What was measured of the kernels, for people to read.

const columns = [
  ["registers", ({ registers }) => registers],
  ["KiB", ({ bytes }) => (bytes / 1024).toFixed(1)],
  ["groups", ({ groups }) => groups],
  ["copies", ({ copies }) => copies],
  ["loads", ({ loads }) => loads],
  ["narrow", ({ narrow }) => narrow],
  ["elements", ({ elements }) => elements],
  ["early", ({ early }) => early],
  ["trigger", ({ trigger }) => (trigger === "never" ? undefined : trigger)],
];

/** A line a kernel and architecture, with its file at the end. "-": it has none, or the file asks nothing of it. */
export function tableOf(kernels) {
  const rows = [
    ["", ...columns.map(([name]) => name), ""],
    ...kernels.map(({ file, kernel, architecture, measured }) => [
      architecture,
      ...columns.map(([, read]) => String(read(measured) ?? "-")),
      `${file} ${kernel}`,
    ]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row.map((cell, column) => (column === row.length - 1 ? cell : cell.padStart(widths[column]))).join("  "),
    )
    .join("\n");
}
