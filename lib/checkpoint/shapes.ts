/**
 * Elements of a shape. Undefined where the sizes above 0 multiply to more than 2^53: even in a tensor without elements
 * such strides could not be told exactly.
 */
export function countElements(shape: readonly number[]): number | undefined {
  let count = 1;
  for (const size of shape) {
    count *= Math.max(size, 1);
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return shape.includes(0) ? 0 : count;
}

/** Row-major strides, in elements. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= Math.max(shape[i] as number, 1);
  }
  return strides;
}
