import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Template, TemplateError } from "../../dist/tokenizer/jinja/index.js";
import { readJson } from "../support/fixtures.js";
import { tokenizersFolder } from "./fixtures.js";

const render = (source: string, variables: Record<string, unknown> = {}) => new Template(source).render(variables);

describe("a template of a stranger is stopped", () => {
  const twice = (use: string) =>
    `{% set ns = namespace(a=[], b=[]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}${use}`;
  const doubled =
    "{% set ns = namespace(t='x' * 1000) %}{% for i in range(100) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}";
  const cases: [string, string, RegExp][] = [
    ["a long range", "{% for i in range(1000000000) %}x{% endfor %}", /Range too big/],
    ["loops in loops", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", /steps/],
    ["a text that doubles", doubled, /characters|steps/],
    ["a repeated text", "{{ 'x' * 1000000000 }}", /characters/],
    ["a repeated list", "{{ [1] * 1000000000 }}", /steps/],
    [
      "a list of lists",
      "{% set a = [1] * 1000 %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ c }}",
      /steps|characters|too large/,
    ],
    ["lists that hold lists twice, written", twice("{{ ns.a }}"), /steps/],
    ["lists that hold lists twice, compared", twice("{{ ns.a == ns.b }}"), /steps/],
    ["lists that hold lists twice, ordered", twice("{{ ns.a < ns.b }}"), /steps/],
    ["lists that hold lists twice, as JSON", twice("{{ ns.a|tojson }}"), /steps/],
    ["padding", "{{ 'x'.center(1000000000) }}{{ '%1000000000d' % 1 }}", /characters/],
    ["a wide format", "{{ '{:1000000000}'.format(1) }}", /characters/],
    ["much output", `{% for i in range(100000) %}${"x".repeat(1000)}{% endfor %}`, /characters|steps/],
    ["a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", /nests more than/],
    ["a loop that calls itself", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", /nests more than/],
    ["deep parentheses", `{{ ${"(".repeat(10000)}1${")".repeat(10000)} }}`, /nests more than/],
    ["deep blocks", "{% if 1 %}".repeat(10000), /nests more than/],
    ["a long chain", `{{ ${"1 + ".repeat(100000)}1 }}`, /too large|nests/],
    ["a large power", "{{ 10 ** 400 }}", /integer is too large/],
    ["a large source", "x".repeat(2 ** 20 + 1), /more than 1048576 characters/],
  ];
  for (const [name, source, message] of cases) {
    test(name, () => assert.throws(() => render(source), { name: "TemplateError", message }));
  }

  test("time", () => {
    const slow = new Template("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}");
    const limits = { milliseconds: 1, steps: Number.MAX_SAFE_INTEGER };
    assert.throws(() => slow.render({}, limits), { name: "TemplateError", message: /more than 1 ms/ });
  });

  test("nothing of JavaScript can be reached", () => {
    const names = ["__proto__", "constructor", "prototype", "__class__", "toString", "hasOwnProperty", "call", "apply"];
    const values = [
      "''",
      "[]",
      "{}",
      "1",
      "1.5",
      "none",
      "range",
      "namespace()",
      "(1,)",
      "loop",
      "messages",
      "d",
      "missing",
    ];
    const variables = { messages: [{ role: "user" }], d: JSON.parse('{"__proto__": "own"}') };
    for (const name of names) {
      for (const value of values) {
        for (const access of [`${value}.${name}`, `${value}['${name}']`, `${value}|attr('${name}')`]) {
          let text = "";
          try {
            text = render(`{% for i in [1] %}{{ ${access} }}{% endfor %}`, variables);
          } catch (error) {
            assert.ok(error instanceof TemplateError, `${access}: ${error}`);
          }
          // A dict's own key is no way out.
          assert.ok(text === "" || (text === "own" && access === `d['__proto__']`), `${access}: ${text}`);
        }
        assert.throws(() => render(`{% for i in [1] %}{{ ${value}.${name}() }}{% endfor %}`, variables), TemplateError);
      }
    }
    assert.equal(render("{{ {'__proto__': 1}.x is defined }}{{ dict(constructor=2).constructor }}"), "False2");
    assert.equal(({} as { x?: unknown }).x, undefined);
  });
});

test("errors name the line", () => {
  const cases: [string, number][] = [
    ["a\nb\n{{ 1 / 0 }}", 3],
    ["{# a\n#}\n{% if x %}\n{{ raise_exception('no') }}\n{% endif %}x", 4],
    ["a\r\nb\r\n{% nothing %}", 3],
    ["{% for i in [1] %}\n{{ i }}\n\n", 3],
    ["{{ a\n b }}", 2],
  ];
  for (const [source, line] of cases) {
    assert.throws(
      () => render(source, { x: 1 }),
      (error: TemplateError) => error instanceof TemplateError && error.line === line,
      source,
    );
  }
});

test("strftime_now writes local time", () => {
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, "0");
  assert.equal(
    render("{{ strftime_now('%Y-%m-%d') }}"),
    `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`,
  );
  assert.match(
    render("{{ strftime_now('%d %b %Y, %A %H:%M:%S %p %j %%') }}"),
    /^\d\d \w{3} \d{4}, \w+day \d\d:\d\d:\d\d [AP]M \d{3} %$/,
  );
});

test("pieces of templates in any order: text or a typed error", () => {
  const { cases } = readJson<{ cases: { template: string }[] }>(`${tokenizersFolder}jinja.json`);
  const pieces = [...new Set(cases.flatMap(({ template }) => template.split(/(?<=[%}]\})|(?=\{[{%])| /)))];
  const limits = { steps: 20_000 };
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 8 }), (chosen) => {
      try {
        const text = new Template(chosen.join(" ")).render({ messages: [{ role: "user", content: "a" }] }, limits);
        assert.equal(typeof text, "string");
      } catch (error) {
        assert.ok(error instanceof TemplateError, `${chosen.join(" ")}: ${error}`);
      }
    }),
    { numRuns: 2000 },
  );
});
