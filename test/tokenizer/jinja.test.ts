import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Template, TemplateError } from "../../dist/tokenizer/jinja/index.js";
import { readJson } from "../support/fixtures.js";
import { tokenizersFolder } from "./fixtures.js";

/** Made by test/fixtures/tokenizers/make_jinja.py with Jinja2 and transformers' settings. */
interface Fixture {
  specials: Record<string, string>;
  contexts: Record<string, Record<string, unknown>>;
  cases: { template: string; context: string; text?: string; error?: string }[];
}

const fixture = readJson<Fixture>(`${tokenizersFolder}jinja.json`);

describe("against Jinja2", () => {
  for (const [i, { template, context, text, error }] of fixture.cases.entries()) {
    test(`${i} ${context}: ${template.slice(0, 70)}`, () => {
      const variables = {
        ...fixture.specials,
        tools: null,
        documents: null,
        add_generation_prompt: false,
        messages: [],
        ...fixture.contexts[context],
      };
      const render = () => new Template(template).render(variables);
      if (error === undefined) assert.equal(render(), text);
      else assert.throws(render, TemplateError);
    });
  }
});
