import * as z from "zod";
import { isObject } from "../../../base/objects.js";
import { showValue, truncate } from "../../../base/text.js";
import { ApiError, invalidRequest } from "./errors.js";

/** More problems than this are not named: a body of wrong values would have an answer of many times its size. */
const mostProblems = 10;
const longestMessage = 200;

/** Deeper than templates and schemas of people go, and less than what overflows the stack of a recursive reader. */
const deepest = 100;
/** More than conversations have. Each wrong value makes an object in the list of problems, so millions would fill the memory. */
const mostValues = 200_000;
/** Fields of OpenAI's routes with as many values as fit into a body, which own loops check. */
const longFields = ["prompt", "input", "tokens"];

/** `messages[2].content`, for a path of keys and places. */
export function toPath(keys: readonly PropertyKey[]): string {
  return keys.reduce<string>((path, key) => {
    if (typeof key === "number") return `${path}[${key}]`;
    return path === "" ? truncate(String(key)) : `${path}.${truncate(String(key))}`;
  }, "");
}

/**
 * Checks a body. The schema has what is interpreted; other fields are let through.
 *
 * @param longValues Parts of the body that may have any number of values, since an own loop checks them.
 * @throws ApiError that names the fields at fault.
 */
export function readBody<Schema extends z.ZodType>(
  schema: Schema,
  body: unknown,
  longValues: readonly unknown[] = isObject(body) ? longFields.map((name) => body[name]) : [],
): z.output<Schema> {
  if (!isObject(body))
    throw invalidRequest("invalid_json", `Expected a JSON object as the body, found ${showValue(body)}.`);
  checkSize(body, new Set(longValues));
  const result = (schema instanceof z.ZodObject ? narrow(schema, body) : schema).safeParse(body);
  if (result.success) return result.data as z.output<Schema>;
  const { issues } = result.error;
  const problems = issues.slice(0, mostProblems).map((issue) => toProblem(issue, body));
  const [first] = problems as [Problem, ...Problem[]];
  const named = problems.map(({ message }) => message);
  if (issues.length > mostProblems) named.push(`and ${issues.length - mostProblems} more problems`);
  throw invalidRequest(first.code, `${named.join("; ")}.`, first.path);
}

/** Of an object's schema: the fields that a body may leave out, and its parts by the fields that bodies have had. */
interface Narrowing {
  optional: readonly string[];
  byFields: Map<string, z.ZodObject>;
}

const narrowings = new WeakMap<z.ZodObject, Narrowing>();
/** Clients send the same few sets of fields again and again. */
const mostNarrowed = 100;

/** A schema without the optional fields that the body does not have: routes know dozens, and requests have a handful. No field has a default. */
function narrow(schema: z.ZodObject, body: Readonly<Record<string, unknown>>): z.ZodObject {
  let known = narrowings.get(schema);
  if (known === undefined) {
    const missing = schema.safeParse({}).error?.issues.map(({ path }) => path[0]) ?? [];
    const optional = Object.keys(schema.shape).filter((name) => !missing.includes(name));
    known = { optional, byFields: new Map() };
    narrowings.set(schema, known);
  }
  const { optional, byFields } = known;
  const absent = optional.filter((name) => !(name in body));
  const key = absent.join();
  const made = byFields.get(key);
  if (made !== undefined || byFields.size >= mostNarrowed) return made ?? schema;
  const narrowed = schema.omit(Object.fromEntries(absent.map((name) => [name, true])) as Record<never, true>);
  byFields.set(key, narrowed);
  return narrowed;
}

interface Problem {
  code: string;
  path: string;
  message: string;
}

function toProblem(issue: z.core.$ZodIssue, body: unknown): Problem {
  // The form that fits best is the one whose first problem is deepest inside.
  const inner = issue.code === "invalid_union" ? issue.errors.flatMap((errors) => errors.slice(0, 1)) : [];
  const [deepestInside] = inner.sort((one, other) => other.path.length - one.path.length);
  if (deepestInside !== undefined && deepestInside.path.length > 0)
    return toProblem({ ...deepestInside, path: [...issue.path, ...deepestInside.path] }, body);
  const path = toPath(issue.path);
  const found = issue.path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key],
    body,
  );
  if (found === undefined) {
    return { code: "missing_required_parameter", path, message: `Missing required parameter: ${path}` };
  }
  const expected = truncate(issue.message.replace(/, received .*/s, ""), longestMessage);
  const code = issue.code === "invalid_type" || issue.code === "invalid_union" ? "invalid_type" : "invalid_value";
  return { code, path, message: `${path}: ${expected}, found ${showValue(found)}` };
}

/** Without recursion, which a deep body would overflow. */
function checkSize(body: object, longValues: ReadonlySet<unknown>): void {
  let level: unknown[] = Object.values(body);
  let count = 0;
  for (let depth = 0; level.length > 0; depth++) {
    count += level.length;
    if (depth > deepest) throw invalidRequest("invalid_value", `The body is nested more than ${deepest} levels deep.`);
    if (count > mostValues) throw invalidRequest("invalid_value", `The body has more than ${mostValues} values.`);
    const next: unknown[] = [];
    for (const value of level) {
      if (typeof value !== "object" || value === null || longValues.has(value)) continue;
      for (const inner of Array.isArray(value) ? value : Object.values(value)) next.push(inner);
    }
    level = next;
  }
}

/** Of a model whose head, or handler, does not do what the route is for: the URL is right, so this is no 404. */
export function unsupportedTask(model: string, task: string): ApiError {
  return new ApiError(
    400,
    "invalid_request_error",
    "unsupported_task",
    `The model ${showValue(model)} does not ${task}.`,
    {
      param: "model",
    },
  );
}
