#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "base/half.h"
#include "sixteen_bit.h"

// __half and the functions on it that kernels use. Arithmetic goes by way of float and is rounded once, as the hardware
// does it.

struct __half {
  uint16_t bits_;

  __half() = default;
  __half(float value) : bits_(fromFloat(value)) {}
  __half(double value) : __half(static_cast<float>(value)) {}
  __half(int value) : __half(static_cast<float>(value)) {}
  __half(unsigned value) : __half(static_cast<float>(value)) {}
  operator float() const { return toFloat(bits_); }

#ifdef __F16C__
  static float toFloat(uint16_t bits) {
    return _cvtsh_ss(bits);
  }
  static uint16_t fromFloat(float value) {
    return static_cast<uint16_t>(_cvtss_sh(value, 0));
  }
#else
  static float toFloat(uint16_t bits) {
    return shardspeed::halfToFloat(bits);
  }
  static uint16_t fromFloat(float value) {
    return shardspeed::floatToHalf(value);
  }
#endif
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

EMULATOR_SIXTEEN_BIT(__half, __half2)

inline float __half2float(__half value) {
  return value;
}
inline __half __float2half(float value) {
  return value;
}
inline __half __float2half_rn(float value) {
  return value;
}
inline __half2 __float2half2_rn(float value) {
  return {value, value};
}
inline __half2 __floats2half2_rn(float x, float y) {
  return {x, y};
}
inline __half2 __float22half2_rn(float2 value) {
  return {value.x, value.y};
}
inline float2 __half22float2(__half2 value) {
  return {value.x, value.y};
}
inline __half2 __half2half2(__half value) {
  return {value, value};
}
inline __half2 __halves2half2(__half x, __half y) {
  return {x, y};
}
inline __half2 make_half2(__half x, __half y) {
  return {x, y};
}
inline __half __low2half(__half2 value) {
  return value.x;
}
inline __half __high2half(__half2 value) {
  return value.y;
}
inline __half2 __low2half2(__half2 value) {
  return {value.x, value.x};
}
inline __half2 __high2half2(__half2 value) {
  return {value.y, value.y};
}
inline unsigned short __half_as_ushort(__half value) {
  return value.bits_;
}
inline short __half_as_short(__half value) {
  return static_cast<short>(value.bits_);
}
inline __half __ushort_as_half(unsigned short bits) {
  return std::bit_cast<__half>(bits);
}
inline __half __short_as_half(short bits) {
  return std::bit_cast<__half>(bits);
}
inline __half __int2half_rn(int value) {
  return value;
}
