import { ShardspeedError } from "../base/errors.js";
import { escapeControls } from "../base/text.js";

/** Where in a checkpoint something is wrong. */
export interface Place {
  file: string;
  tensor?: string | undefined;
}

/** ERR_CHECKPOINT with file, tensor (where there is one) and reason. */
export function checkpointError(place: Place, reason: string, cause?: unknown): ShardspeedError {
  const tensor = place.tensor === undefined ? "" : `tensor ${quote(place.tensor)}: `;
  const message = escapeControls(`${place.file}: ${tensor}${reason}`);
  return new ShardspeedError("ERR_CHECKPOINT", message, cause === undefined ? {} : { cause });
}

/** Text from a file as it may stand in a message: control characters escaped, of bounded length. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);
}

/** `a, b, c and 4 more`: as many of the items as a message should carry. */
export function listed(items: readonly string[], most = 10): string {
  const shown = items.slice(0, most).map((item) => (item.length > 200 ? `${item.slice(0, 200)}...` : item));
  if (items.length > most) return `${shown.join(", ")} and ${items.length - most} more`;
  return shown.join(", ");
}
