#pragma once

#include <cstdint>
#include <cstring>

namespace shardspeed {

// Scalar conversions between fp32 and the 16-bit formats, rounding to nearest even.

inline float bitsToFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t floatToBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bfloat16ToFloat(uint16_t half) {
  return bitsToFloat(static_cast<uint32_t>(half) << 16);
}

inline uint16_t floatToBfloat16(float value) {
  const uint32_t bits = floatToBits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);  // a quiet NaN stays one
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float halfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return bitsToFloat(sign | 0x7f800000 | ((magnitude & 0x3ff) << 13));
  // Shifted into place, the exponent is 112 too small. The multiplication corrects it, also for subnormal numbers.
  return bitsToFloat(sign | floatToBits(bitsToFloat(magnitude << 13) * 0x1p112f));
}

inline uint16_t floatToHalf(float value) {
  const uint32_t bits = floatToBits(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // rounds to 65536 or more
  if (magnitude < 0x38800000) {
    // Subnormal: adding one half moves the remaining bits to the bottom, and the addition itself rounds them.
    return static_cast<uint16_t>(sign | (floatToBits(bitsToFloat(magnitude) + 0.5f) - floatToBits(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

}  // namespace shardspeed
