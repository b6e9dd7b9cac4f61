import { ShardspeedError } from "../base/errors.js";
import type { Context } from "./context.js";
import { encodeOutput, streamNextHeader } from "./response.js";

/**
 * Sends parts of the responses before the handler returns, like `send_intermediate_predict_response` of TorchServe
 * (ts/handler_utils/utils.py).
 *
 * @param ret The parts, by index in the batch. A request whose index is not in requestIds gets none.
 * @param requestIds context.requestIds, or a subset of it.
 * @param code HTTP status.
 * @throws ShardspeedError ERR_HANDLER if the parts cannot be encoded, or responses cannot be sent in parts.
 */
export function sendIntermediatePredictResponse(
  ret: readonly unknown[],
  requestIds: Readonly<Record<number, string>>,
  message: string,
  code: number,
  context: Context,
): void {
  if (context.onIntermediateResponse === undefined) {
    throw new ShardspeedError("ERR_HANDLER", "Nobody can take an intermediate response here: return the whole output.");
  }
  const responses = Object.entries(requestIds).map(([place, requestId]) => {
    const index = Number(place);
    const body = encodeOutput(ret[index]);
    if (body === undefined) throw new ShardspeedError("ERR_HANDLER", "Unsupported model output data type.");
    context.setResponseHeader(index, streamNextHeader, "true");
    return { index, requestId, status: code, message, headers: { ...context.getResponseHeaders(index) }, body };
  });
  context.onIntermediateResponse(responses);
}
