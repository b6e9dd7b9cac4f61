/** A tensor, or a part of one, as it lies in a file; strides and offset count elements. */
export interface StridedView {
  shape: number[];
  strides: number[];
  offset: number;
}

/** One step from a checkpoint's tensor to a role's rows. Steps only rearrange sizes and strides: no data is touched. */
export type ViewStep = (view: StridedView) => StridedView;

/** Swaps two dimensions. */
export function transpose(first: number, second: number): ViewStep {
  return ({ shape, strides, offset }) => {
    const swap = (values: number[]) =>
      values.map((value, at) =>
        at === first ? dimensionOf(values, second) : at === second ? dimensionOf(values, first) : value,
      );
    return { shape: swap(shape), strides: swap(strides), offset };
  };
}

/** Elements start ... start + length - 1 of a dimension. */
export function narrow(dimension: number, start: number, length: number): ViewStep {
  return ({ shape, strides, offset }) => {
    const size = dimensionOf(shape, dimension);
    if (start < 0 || length < 1 || start + length > size) {
      throw new RangeError(`narrow(${dimension}, ${start}, ${length}) of a dimension of ${size}`);
    }
    return {
      shape: shape.with(dimension, length),
      strides: [...strides],
      offset: offset + start * dimensionOf(strides, dimension),
    };
  };
}

/**
 * Elements start ... start + length - 1 of a dimension of `total`, or the same share of one that is shorter: of a piece of
 * a tensor in which each of the blocks side by side is cut alike.
 */
export function share(dimension: number, start: number, length: number, total: number): ViewStep {
  return (view) => {
    const size = dimensionOf(view.shape, dimension);
    const [first, count] = [(start * size) / total, (length * size) / total];
    if (!Number.isInteger(first) || !Number.isInteger(count)) {
      throw new RangeError(`share(${dimension}, ${start}, ${length}, ${total}) of a dimension of ${size}`);
    }
    return narrow(dimension, first, count)(view);
  };
}

/** One element of a dimension, which goes away. */
export function select(dimension: number, index: number): ViewStep {
  return (view) => {
    const one = narrow(dimension, index, 1)(view);
    return { ...one, shape: one.shape.toSpliced(dimension, 1), strides: one.strides.toSpliced(dimension, 1) };
  };
}

/** Splits a dimension into several, the last of them the fastest: sizes multiply to the dimension's. One may be -1: what is left. */
export function unflatten(dimension: number, given: readonly number[]): ViewStep {
  return ({ shape, strides, offset }) => {
    const size = dimensionOf(shape, dimension);
    const known = given.reduce((product, part) => (part === -1 ? product : product * part), 1);
    const sizes = given.map((part) => (part === -1 ? size / known : part));
    if (!sizes.every(Number.isInteger) || sizes.reduce((product, part) => product * part, 1) !== size) {
      throw new RangeError(`unflatten(${dimension}, [${sizes.join(", ")}]) of a dimension of ${size}`);
    }
    let stride = dimensionOf(strides, dimension);
    const parts = sizes.toReversed().map((part) => {
      const own = stride;
      stride *= part;
      return own;
    });
    return {
      shape: shape.toSpliced(dimension, 1, ...sizes),
      strides: strides.toSpliced(dimension, 1, ...parts.reverse()),
      offset,
    };
  };
}

function dimensionOf(values: readonly number[], index: number): number {
  const value = values[index];
  if (value === undefined) throw new RangeError(`no dimension ${index} in a tensor of ${values.length}`);
  return value;
}
