import { invalidArgument } from "../base/errors.js";

/** @throws ShardspeedError ERR_INVALID_ARGUMENT naming the first id that the model does not have. */
export function checkTokenIds(ids: readonly unknown[], vocabSize: number, name: string): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocabSize) {
      throw invalidArgument(`${name}[${i}]`, `a token id from 0 to ${vocabSize - 1}`, id);
    }
  }
}
