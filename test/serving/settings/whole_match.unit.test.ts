import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import { WholeMatch, whyNotExpression } from "../../../dist/serving/settings/whole_match.js";
import { hasCode } from "../../support/fixtures.js";
import { resolveWith } from "./support.js";

const matches = (source: string, text: string, ignoresCase = true) =>
  new WholeMatch(source, { ignoresCase }).test(text);

describe("an expression of Java", () => {
  test("matches whole texts, with or without regard to case", () => {
    for (const [source, text, expected] of [
      ["file://.*|http(s)?://.*", "https://a/b.mar", true],
      ["file://.*|http(s)?://.*", "HTTP://a", true],
      ["file://.*|http(s)?://.*", "ftp://a", false],
      ["https://a/", "https://a/b", false],
      ["a/", "https://a/", false],
      ["a|ab", "ab", true],
      ["https://[^/]+\\.example\\.com/\\w{3,}\\.mar", "https://x.example.com/opt.mar", true],
      ["https://[^/]+\\.example\\.com/\\w{3,}\\.mar", "https://evil/x.example.com/opt.mar", false],
      ["https?+://.*+", "http://a", true],
      ["\\p{Alpha}+", "abc", true],
      ["a.c", "a\nc", false],
      ["[a-c]+", "ABC", true],
    ] as const)
      assert.equal(matches(source, text), expected, `${source} ${text}`);
    assert.equal(matches("AWS_.*", "aws_key", false), false);
    assert.equal(matches("(?i)AWS_.*", "aws_key", false), true);
  });

  test("that JavaScript reads in another sense, or not at all, is refused", () => {
    for (const source of ["(", "a)(b", "[a", "*a", "\\Qa.b\\E", "[a-z&&[^b]]", "(a)\\1", "(?s)a", "a".repeat(1001)])
      assert.equal(typeof whyNotExpression(source, { ignoresCase: true }), "string", source);
    assert.equal(whyNotExpression("https://a/.*", { ignoresCase: true }), undefined);
  });

  test("takes linear time, whatever it is", () => {
    const text = `https://a/${"a".repeat(5000)}!`;
    for (const source of ["https://a/(a+)+", "https://a/(a|a)*b", "https://a/(.*)*(.*)*(.*)*x"])
      assert.equal(matches(source, text), false, source);
    assert.equal(matches(".*", "a".repeat(8192)), true);
    assert.equal(matches(".*", "a".repeat(8193)), false);
  });

  test("is checked at the start, from each source", async () => {
    const wrong = hasCode("ERR_CONFIG", /allowed_urls.*regular expressions.*cannot be read/);
    await assert.rejects(resolveWith("allowed_urls=https://a/.*,(b"), wrong);
    await assert.rejects(resolveWith("blacklist_env_vars=(b"), hasCode("ERR_CONFIG", /blacklist_env_vars.*missing \)/));
    assert.throws(
      () => completeSettings({ modelStore: "a", allowedUrls: ["a)(b"] }),
      hasCode("ERR_CONFIG", /unmatched/),
    );
    assert.throws(
      () => completeSettings({ modelStore: "a", hiddenVariables: "[" }),
      hasCode("ERR_CONFIG", /missing ]/),
    );
  });
});
