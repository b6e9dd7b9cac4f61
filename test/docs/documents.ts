import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { root } from "../package/programs.js";

/** A page of the repository, by its path from the root. */
export interface Page {
  file: string;
  text: string;
}

/** A fenced block of code: its language, the line of its fence, and its lines. */
export interface CodeBlock {
  page: string;
  language: string;
  line: number;
  code: string;
}

/** Every page that people read: guides, references, and what the folders say of themselves. */
export function readPages(): Page[] {
  const docs = readdirSync(path.join(root, "docs")).filter((name) => name.endsWith(".md"));
  const others = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "models/demo/README.md"];
  return [...others, ...docs.map((name) => `docs/${name}`)].map((file) => ({
    file,
    text: readFileSync(path.join(root, file), "utf8"),
  }));
}

export function codeBlocks({ file, text }: Page): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  for (const match of text.matchAll(/^( *)```(\w*)\n([\s\S]*?)^\1```$/gm)) {
    const [, indent = "", language = "", code = ""] = match;
    const line = text.slice(0, match.index).split("\n").length;
    blocks.push({ page: file, language, line, code: code.replaceAll(new RegExp(`^${indent}`, "gm"), "") });
  }
  return blocks;
}

/** What a page has in `single backticks`, outside of fenced blocks. */
export function inlineCode({ text }: Page): string[] {
  const prose = text.replaceAll(/^( *)```[\s\S]*?^\1```$/gm, "");
  return [...prose.matchAll(/(?<!`)`([^`]+)`(?!`)/g)].map(([, code = ""]) => code.replaceAll("\n", " "));
}
