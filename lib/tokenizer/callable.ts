type Call = (...args: never[]) => unknown;

class FunctionObject {
  constructor(call: (self: unknown, ...args: unknown[]) => unknown) {
    const callable = (...args: unknown[]): unknown => call(callable, ...args);
    // biome-ignore lint/correctness/noConstructorReturn: what the class is for.
    return Object.setPrototypeOf(callable, new.target.prototype);
  }
}
// A function has bind() and call().
Object.setPrototypeOf(FunctionObject.prototype, Function.prototype);

/**
 * Base of classes whose instances are functions too: Python's `__call__`. The constructor returns a function with the class's prototype;
 * fields of derived classes, private ones too, are made on what a base constructor returns.
 */
export const Callable = FunctionObject as unknown as new <C extends Call>(
  call: (self: C, ...args: never[]) => unknown,
) => C;
