import { codeBlocks, inlineCode, type Page } from "./documents.js";

/** A command line that a page shows, and where. */
export interface ShownCommand {
  page: string;
  command: string;
}

/** Programs by which a piece of inline code is known to be a command line. */
const programs =
  /^(?:[A-Z_]+=\S+ )*(?:(?:npm|npx|node|shardspeed|cmake|ctest|gdb|clang-format|gcov|c8) |scripts\/\S+\.sh\b)/;

/** The command lines of a shell block: lines that end in a backslash are joined, comments and `&&` taken apart. */
function blockCommands(language: string, code: string): string[] {
  if (language === "sh") {
    return code
      .replaceAll(/\\\n\s*/g, "")
      .split("\n")
      .map((line) => line.replace(/(^|\s+)# .*$/, "").trim())
      .filter((line) => line !== "");
  }
  // Sessions: what is typed follows a dollar sign, the rest is output.
  return [...code.matchAll(/^\$ (.+)$/gm)].map(([, line = ""]) => line.trim());
}

export function shownCommands(page: Page): ShownCommand[] {
  const blocks = codeBlocks(page).filter(({ language }) => language === "sh" || language === "");
  const lines = [
    ...blocks.flatMap(({ language, code }) => blockCommands(language, code)),
    ...inlineCode(page)
      .flatMap((code) => code.split(" && "))
      .filter((code) => programs.test(code)),
  ];
  const commands = lines.flatMap((line) => line.split(" && "));
  return [...new Set(commands)].map((command) => ({ page: page.file, command }));
}
