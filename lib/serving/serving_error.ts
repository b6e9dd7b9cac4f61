/** Why a server cannot answer a request, and the HTTP status of each. Failures of the engine are ShardspeedErrors. */
export const servingStatuses = {
  queue_full: 503,
  model_loading: 503,
  no_worker: 503,
  shutting_down: 503,
  queue_timeout: 503,
  request_timeout: 504,
  worker_died: 500,
  /** More than there is room for at any time. */
  too_many_sequences: 400,
  model_not_found: 404,
  version_not_found: 404,
} as const;

export type ServingErrorCode = keyof typeof servingStatuses;

/** A failure of serving itself: full queues, workers that died, models that are not there. Each family of routes shapes it as its clients expect. */
export class ServingError extends Error {
  constructor(
    readonly code: ServingErrorCode,
    message: string,
    readonly details: {
      /** Seconds after which a client may try again. */
      retryAfterS?: number;
      /** Where another try cannot help. */
      final?: boolean;
    } = {},
  ) {
    super(message);
    this.name = "ServingError";
  }

  get status(): number {
    return servingStatuses[this.code];
  }
}
