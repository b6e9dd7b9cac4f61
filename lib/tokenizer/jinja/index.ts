import { defaultLimits, type Limits, TemplateError } from "./budget.js";
import { render } from "./interpreter.js";
import type { Statement } from "./nodes.js";
import { parseTemplate } from "./parser.js";
import { fromJavaScript } from "./values.js";

export { TemplateError } from "./budget.js";

/** Longer sources are refused: published chat templates have some 20,000 characters. */
const longestSource = 2 ** 20;

/**
 * A Jinja2 template with the settings that transformers gives chat templates: `ImmutableSandboxedEnvironment`,
 * `trim_blocks`, `lstrip_blocks`, loop controls, `tojson` without HTML escapes, `raise_exception`, `strftime_now` and
 * the `generation` tag. Values are written as Python writes them.
 */
export class Template {
  readonly #statements: Statement[];

  /** @throws TemplateError */
  constructor(source: string) {
    if (source.length > longestSource) throw new TemplateError(`it has more than ${longestSource} characters`);
    this.#statements = parseTemplate(source);
  }

  /** @throws TemplateError where the template fails, raises an exception, or needs more than the limits. */
  render(variables: Record<string, unknown>, limits: Partial<Limits> = {}): string {
    const values = Object.entries(variables)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, fromJavaScript(value)] as const);
    return render(this.#statements, values, { ...defaultLimits, ...limits });
  }
}
