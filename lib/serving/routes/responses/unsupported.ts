import { showValue } from "../../../base/text.js";
import { invalidRequest } from "../openai/errors.js";
import type { ResponsesBody } from "./fields.js";

function refuse(param: string, advice: string): never {
  throw invalidRequest("unsupported_parameter", `${param} is not supported. ${advice}`, param);
}

/** @throws ApiError for a field that asks for what is not there. */
export function refuseUnsupported(body: ResponsesBody): void {
  const isSet = (value: unknown) => value !== undefined && value !== null;
  const stateless = "Nothing is stored here: send the whole conversation as input.";
  if (isSet(body.previous_response_id)) refuse("previous_response_id", stateless);
  if (isSet(body.conversation)) refuse("conversation", stateless);
  if (isSet(body.prompt)) refuse("prompt", "There are no stored prompts: send instructions and input.");
  if (body.background) refuse("background", "Use a stream for long answers.");
  body.tools?.forEach(({ type, name }, i) => {
    if (type !== "function")
      refuse(`tools[${i}].type`, `Tools of the type ${showValue(type)} are not there, only functions.`);
    if (!isSet(name)) {
      const param = `tools[${i}].name`;
      throw invalidRequest("missing_required_parameter", `Missing required parameter: ${param}.`, param);
    }
  });
}
