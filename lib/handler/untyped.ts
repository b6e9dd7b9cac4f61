/**
 * A value of a shape that only its user knows, as JSON.parse() gives it. Handlers ported from Python read yaml and keep fields that
 * nobody has declared; with `unknown` each of these lines would need a cast.
 */
// biome-ignore lint/suspicious/noExplicitAny: the one place, for the reason above
export type Untyped = any;
