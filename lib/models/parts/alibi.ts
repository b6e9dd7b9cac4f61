/*
 * The reference (transformers, build_alibi_tensor of models/bloom and models/falcon) computes base and powers in fp32 tensors.
 */
const round = Math.fround;

/** 2^(-8 / n), as an fp32 power series: of n heads, n a power of two, head h has the slope 2^(-8 (h + 1) / n). */
function slopesOfPower(heads: number, exponents: readonly number[]): number[] {
  const base = round(2 ** -(2 ** -(Math.log2(heads) - 3)));
  return exponents.map((exponent) => round(base ** exponent));
}

/**
 * The slopes of ALiBi (Press et al. 2022, arXiv:2108.12409), one a head. Where the number of heads is no power of two, the others take every
 * second slope of twice as many heads.
 */
export function alibiSlopes(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const first = slopesOfPower(
    power,
    Array.from({ length: power }, (_, i) => i + 1),
  );
  const rest = Array.from({ length: heads - power }, (_, i) => 2 * i + 1);
  return [...first, ...slopesOfPower(2 * power, rest)];
}

/**
 * The slopes of Falcon, as the reference has them with eager attention: rounded to bfloat16, and added to the scores twice, ahead of their
 * scale and, divided by the root of a head's width, in the mask. (Its scaled_dot_product_attention path has the second alone. The golden data
 * is of the eager one.) The reference also rounds products of slope and position, which from position 256 on are not exact in bfloat16; that
 * is not followed here.
 */
export function falconSlopes(heads: number, headDim: number): number[] {
  return alibiSlopes(heads).map((slope) => 2 * toBfloat16(slope) * headDim ** -0.5);
}

/**
 * The slopes of MPT: of 2, 4, 8 ... heads h has 2^(-8 (h + 1) / n), rounded in fp32 as the reference does. Where the number of heads is no
 * power of two, every second slope of the next power, beginning with the second one, then the others, as far as there are heads.
 */
export function mptSlopes(heads: number): number[] {
  const power = 2 ** Math.ceil(Math.log2(heads));
  const slopes = Array.from({ length: power }, (_, h) => round(1 / round(2 ** round((h + 1) * round(8 / power)))));
  if (power === heads) return slopes;
  const half = (parity: number) => slopes.filter((_, h) => h % 2 === parity);
  return [...half(1), ...half(0)].slice(0, heads);
}

/** To the nearest number, of two the even one. */
function toBfloat16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  const [word = 0] = bits;
  bits[0] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(bits.buffer)[0] as number;
}
