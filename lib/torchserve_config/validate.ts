import { nearestKey } from "../base/nearest.js";
import { checkValue, remarkOn } from "./check_value.js";
import { crossCheck } from "./cross_check.js";
import { type Findings, type Given, showKey } from "./findings.js";
import { foreignSections, keysOf, modelYamlKeys } from "./keys.js";
import { describeValue, plainData, type YamlEntry, type YamlMap, type YamlValue } from "./yaml_tree.js";

/** Checks all of a file; what is wrong goes to the findings. */
export function validate(file: YamlMap, findings: Findings): Given {
  const given: Given = new Map();
  for (const [key, entry] of file.entries) {
    if (Object.hasOwn(modelYamlKeys, key) && !key.includes(".")) readKey(key, entry, given, findings);
    else if (key === "torchrun" || key === "deepspeed") readSection(key, entry, given, findings);
    else if (key === "handler") readHandler(entry, given, findings);
    else if (Object.hasOwn(foreignSections, key)) {
      findings.warn(entry.keyPlace, `${key}: no effect here: ${foreignSections[key]}`);
    } else {
      const near = nearestKey(key, keysOf());
      const advice = near === undefined ? "Only handlers see it" : `Did you mean ${near}?`;
      findings.warn(entry.keyPlace, `unknown key ${showKey(key)}. ${advice}`);
    }
  }
  addTorchrunRanks(file, given);
  crossCheck(given, file, findings);
  return given;
}

function readKey(name: string, { keyPlace, value: node }: YamlEntry, given: Given, findings: Findings): void {
  const checked = checkValue(name, plainData(node));
  if ("expected" in checked) {
    const wrong = node.kind === "list" && checked.at !== undefined ? (node.items[checked.at] as YamlValue) : node;
    const where = checked.at === undefined ? name : `${name}[${checked.at}]`;
    findings.error(wrong.place, `${where}: expected ${checked.expected}, found ${describeValue(wrong)}`);
    return;
  }
  const remark = checked.remark ?? remarkOn(name, checked.value);
  if (remark !== undefined) findings.warn(node.place, `${name}: ${remark}`);
  given.set(name, { value: checked.value, keyPlace, valuePlace: node.place });
}

function readSection(section: string, { value: node }: YamlEntry, given: Given, findings: Findings): void {
  if (node.kind !== "map") {
    findings.error(node.place, `${section}: expected a map, found ${describeValue(node)}`);
    return;
  }
  const known = keysOf(section);
  for (const [key, entry] of node.entries) {
    if (known.includes(key)) {
      readKey(`${section}.${key}`, entry, given, findings);
      continue;
    }
    const near = nearestKey(key, known);
    const advice = near === undefined ? `Known are: ${known.join(", ")}` : `Did you mean ${near}?`;
    findings.warn(entry.keyPlace, `${section} has an unknown key ${showKey(key)}. ${advice}`);
  }
}

/** A torchrun section that does not say how many ranks means one, where nothing else says it. */
function addTorchrunRanks(file: YamlMap, given: Given): void {
  const section = file.entries.get("torchrun");
  if (section?.value.kind !== "map" || section.value.entries.has("nproc-per-node")) return;
  if (given.get("parallelLevel")?.value) return;
  const { keyPlace, value: node } = section;
  const value = modelYamlKeys["torchrun.nproc-per-node"]?.default;
  given.set("torchrun.nproc-per-node", { value, keyPlace, valuePlace: node.place });
}

function readHandler({ keyPlace, value: node }: YamlEntry, given: Given, findings: Findings): void {
  if (node.kind === "map") {
    for (const [key, entry] of node.entries) {
      const { keyPlace, value } = entry;
      given.set(`handler.${key}`, { value: plainData(value), keyPlace, valuePlace: value.place });
    }
    return;
  }
  // A section whose every line is commented out is an empty one.
  if (node.kind === "scalar" && node.value === null) return;
  if (node.kind === "scalar" && typeof node.value === "string" && node.value !== "") {
    given.set("handler", { value: node.value, keyPlace, valuePlace: node.place });
    return;
  }
  const expected = "a map or the name of a shipped handler";
  findings.error(node.place, `handler: expected ${expected}, found ${describeValue(node)}`);
}
