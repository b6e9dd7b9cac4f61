/** Told of work before it is done, in states that are looked at: about 50 nanoseconds each. It may throw. */
export type Spend = (states: number) => void;

export const unlimited: Spend = () => {};

/** What upTo() throws. */
export class TooMuchWork extends Error {}

/** Throws TooMuchWork once more than so many states are looked at. */
export function upTo(states: number): Spend {
  let left = states;
  return (spent) => {
    left -= spent;
    if (left < 0) throw new TooMuchWork("the work is more than was allowed");
  };
}
