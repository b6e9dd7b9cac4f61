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

/** One element of a dimension, which goes away. */
export function select(dimension: number, index: number): ViewStep {
  return (view) => {
    const one = narrow(dimension, index, 1)(view);
    return { ...one, shape: one.shape.toSpliced(dimension, 1), strides: one.strides.toSpliced(dimension, 1) };
  };
}

/** Splits a dimension into several, the last of them the fastest: sizes multiply to the dimension's. */
export function unflatten(dimension: number, sizes: readonly number[]): ViewStep {
  return ({ shape, strides, offset }) => {
    const size = dimensionOf(shape, dimension);
    if (sizes.reduce((product, part) => product * part, 1) !== size) {
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
