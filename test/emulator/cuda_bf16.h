#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "base/half.h"
#include "sixteen_bit.h"

// __nv_bfloat16 and the functions on it that kernels use: see cuda_fp16.h.

struct __nv_bfloat16 {
  uint16_t bits_;

  __nv_bfloat16() = default;
  __nv_bfloat16(float value) : bits_(shardspeed::floatToBfloat16(value)) {}
  __nv_bfloat16(double value) : __nv_bfloat16(static_cast<float>(value)) {}
  __nv_bfloat16(int value) : __nv_bfloat16(static_cast<float>(value)) {}
  __nv_bfloat16(unsigned value) : __nv_bfloat16(static_cast<float>(value)) {}
  operator float() const { return shardspeed::bfloat16ToFloat(bits_); }
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

EMULATOR_SIXTEEN_BIT(__nv_bfloat16, __nv_bfloat162)

inline float __bfloat162float(__nv_bfloat16 value) {
  return value;
}
inline __nv_bfloat16 __float2bfloat16(float value) {
  return value;
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  return value;
}
inline __nv_bfloat162 __float2bfloat162_rn(float value) {
  return {value, value};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {x, y};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) {
  return {value.x, value.y};
}
inline float2 __bfloat1622float2(__nv_bfloat162 value) {
  return {value.x, value.y};
}
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 value) {
  return {value, value};
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
  return {x, y};
}
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
  return {x, y};
}
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 value) {
  return value.x;
}
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 value) {
  return value.y;
}
inline __nv_bfloat162 __low2bfloat162(__nv_bfloat162 value) {
  return {value.x, value.x};
}
inline __nv_bfloat162 __high2bfloat162(__nv_bfloat162 value) {
  return {value.y, value.y};
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) {
  return value.bits_;
}
inline short __bfloat16_as_short(__nv_bfloat16 value) {
  return static_cast<short>(value.bits_);
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  return std::bit_cast<__nv_bfloat16>(bits);
}
inline __nv_bfloat16 __short_as_bfloat16(short bits) {
  return std::bit_cast<__nv_bfloat16>(bits);
}
