/** The handlers that come with the package, by the names of their classes. What is listed here is known to archives, yaml and --handler-map alike. */
export const shippedHandlerNames = [
  "TextGenerationHandler",
  "SequenceClassificationHandler",
  "TokenClassificationHandler",
  "QuestionAnsweringHandler",
  "EmbeddingHandler",
] as const;

export type ShippedHandlerName = (typeof shippedHandlerNames)[number];

/** The handler that a name means, as its class is called or as TorchServe writes such names: text_generation_handler, text_generation. */
export function findShippedName(name: string): ShippedHandlerName | undefined {
  return shippedHandlerNames.find((known) => plain(known) === plain(name));
}

function plain(name: string): string {
  return name
    .replaceAll("_", "")
    .toLowerCase()
    .replace(/handler$/, "");
}
