import fc from "fast-check";

const leaf = fc.oneof(
  fc.constant({ type: "null" }),
  fc.constant({ type: ["boolean", "string"] }),
  fc.constant({}),
  fc.tuple(fc.integer({ min: -1200, max: 1200 }), fc.nat(1500)).map(([minimum, size]) => ({
    type: "integer",
    minimum,
    maximum: minimum + size,
  })),
  fc.tuple(fc.integer({ min: -120, max: 120 }), fc.integer({ min: 1, max: 300 })).map(([low, size]) => ({
    type: "number",
    exclusiveMinimum: low,
    exclusiveMaximum: low + size,
  })),
  fc.tuple(fc.integer({ min: -9999, max: 9999 }), fc.nat(9999)).map(([low, size]) => ({
    type: "number",
    minimum: low / 100,
    maximum: (low + size) / 100,
  })),
  fc
    .tuple(fc.constantFrom(3, 10, 0.5, 0.01), fc.integer({ min: -99, max: 99 }))
    .map(([multipleOf, low]) => ({ type: "number", multipleOf, minimum: low, maximum: low + 90 })),
  fc.constant({ type: "number" }),
  fc.constant({ type: "integer", exclusiveMaximum: -5 }),
  fc
    .tuple(fc.nat(3), fc.nat(3))
    .map(([minLength, more]) => ({ type: "string", minLength, maxLength: minLength + more })),
  fc
    .constantFrom("date-time", "date", "time", "uuid", "ipv4", "ipv6", "email", "hostname", "duration", "uri")
    .map((format) => ({ type: "string", format })),
  fc.constantFrom("^[a-z]+$", 'x"\\\\y', "^a|b$", "[^a]{2,3}", "\\d\\s\\w", "^(?:ab?|\\n)*$").map((pattern) => ({
    type: "string",
    pattern,
  })),
  fc
    .tuple(fc.constantFrom("^[a-z]+$", "[^a]{2}", "^(?:ab?|\\n)*$"), fc.nat(3))
    .map(([pattern, minLength]) => ({ type: "string", pattern, minLength, maxLength: 8 })),
  fc
    .uniqueArray(fc.jsonValue({ maxDepth: 1 }), {
      minLength: 1,
      maxLength: 3,
      selector: (value) => JSON.stringify(value),
    })
    .map((values) => ({ enum: values })),
  fc.jsonValue({ maxDepth: 2 }).map((value) => ({ const: value })),
);
/** Random schemas of what is supported. */
export const { schema: anySchema } = fc.letrec((tie) => ({
  schema: fc.oneof({ depthSize: "small", withCrossShrink: true }, leaf, tie("object"), tie("array"), tie("any")),
  object: fc
    .record({
      names: fc.uniqueArray(fc.constantFrom("a", "ab", "b", 'q"', "é", "\\"), { maxLength: 4 }),
      values: fc.array(tie("schema"), { minLength: 4, maxLength: 4 }),
      required: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      extra: fc.constantFrom(undefined, false, true, { type: "integer" }),
      more: fc.constantFrom({}, {}, { minProperties: 1 }, { propertyNames: { maxLength: 2 } }),
    })
    .map(({ names, values, required, extra, more }) => ({
      ...more,
      type: "object",
      properties: Object.fromEntries(names.map((name, i) => [name, values[i]])),
      required: names.filter((_, i) => required[i]),
      ...(extra !== undefined && { additionalProperties: extra }),
    })),
  array: fc
    .record({
      first: fc.array(tie("schema"), { maxLength: 2 }),
      items: tie("schema"),
      least: fc.nat(3),
      more: fc.nat(2),
    })
    .map(({ first, items, least, more }) => ({
      type: "array",
      ...(first.length > 0 && { prefixItems: first }),
      items,
      minItems: least,
      maxItems: least + more,
    })),
  any: fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
}));
