import { invalidArgument } from "../base/errors.js";

const marker = Symbol.for("shardspeed.prediction_exception");

/** Thrown by a handler to set status and message of all responses of a batch (ts/utils/util.py). */
export class PredictionException extends Error {
  /** The HTTP status of every request in the batch. */
  readonly errorCode: number;

  /** @param errorCode An HTTP status, 100 to 599. Default 500. */
  constructor(message: string, errorCode = 500) {
    if (!Number.isInteger(errorCode) || errorCode < 100 || errorCode > 599) {
      throw invalidArgument("errorCode", "an HTTP status from 100 to 599", errorCode);
    }
    super(message);
    this.name = "PredictionException";
    this.errorCode = errorCode;
    Object.defineProperty(this, marker, { value: true });
  }

  /** True for exceptions of any copy of this package in the process. */
  static isInstance(error: unknown): error is PredictionException {
    return typeof error === "object" && error !== null && marker in error;
  }
}
