import type { FastifyReply } from "fastify";

/**
 * The signal of `controller`, which aborts when the client goes away before it has its whole answer.
 *
 * Not Fastify's `request.signal`: that follows the "close" of the incoming message, which Node emits as soon as a body has been read, so it
 * aborts every POST at once.
 */
export function abortOnDisconnect(reply: FastifyReply, controller = new AbortController()): AbortSignal {
  const { raw } = reply;
  const onClose = () => {
    if (!raw.writableFinished) controller.abort();
  };
  if (raw.closed) onClose();
  else raw.once("close", onClose);
  return controller.signal;
}
