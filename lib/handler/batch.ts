import { RequestProcessor } from "./request_processor.js";
import type { IntermediateResponse } from "./response.js";

/** What belongs to one batch of requests, and to no other. A context shows it to a handler while that works on the batch. */
export class Batch {
  /** Ids of the requests, by place. */
  requestIds: Record<number, string> = {};
  /** One for each request: its headers, and the status and headers of its response. */
  requestProcessor: RequestProcessor[] = [];
  /** One for each request, of a handler that batches continuously; else null. */
  stoppingCriteria: ((output: unknown) => boolean)[] | null = null;
  /** Signals of requests whose clients may go away, by place. */
  requestSignals: readonly (AbortSignal | undefined)[] = [];
  /** Receives what sendIntermediatePredictResponse() sends; undefined where nobody can take a part of a response. */
  onIntermediateResponse: ((responses: IntermediateResponse[]) => void) | undefined;

  /** Before the first batch a context has one request, so that a handler can be called without a service. */
  static ofOneRequest(): Batch {
    const batch = new Batch();
    batch.requestProcessor = [new RequestProcessor()];
    return batch;
  }
}
