import assert from "node:assert/strict";
import { ShardspeedError } from "../../dist/base/errors.js";
import { type ParsedModelConfig, parseModelConfigYaml } from "../../dist/torchserve_config/index.js";

export function parse(text: string): ParsedModelConfig {
  return parseModelConfigYaml(text);
}

/** The lines of the ERR_CONFIG that a text is refused with. */
export function problems(text: string): string[] {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof ShardspeedError, error instanceof Error ? error.stack : String(error));
    assert.equal(error.code, "ERR_CONFIG");
    return error.message.split("\n");
  }
  assert.fail(`expected an error for ${JSON.stringify(text)}`);
}
