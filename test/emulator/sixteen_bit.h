#pragma once

#include <math.h>

#include "vector_types.h"

// What CUDA defines alike for __half and __nv_bfloat16.

#define EMULATOR_SIXTEEN_BIT_OPERATION(T, T2, name, expression) \
  inline T name(T x, T y) {                                     \
    const float a = x, b = y;                                   \
    return T(static_cast<float>(expression));                   \
  }                                                             \
  inline T2 name##2(T2 x, T2 y) {                               \
    return {name(x.x, y.x), name(x.y, y.y)};                    \
  }
#define EMULATOR_SIXTEEN_BIT_COMPARISON(T, name, sign)       \
  inline bool name(T x, T y) {                               \
    return static_cast<float>(x) sign static_cast<float>(y); \
  }
#define EMULATOR_SIXTEEN_BIT(T, T2)                                                                     \
  static_assert(std::is_trivially_default_constructible_v<T> && sizeof(T) == 2);                        \
  EMULATOR_SIXTEEN_BIT_OPERATION(T, T2, __hadd, a + b)                                                  \
  EMULATOR_SIXTEEN_BIT_OPERATION(T, T2, __hsub, a - b)                                                  \
  EMULATOR_SIXTEEN_BIT_OPERATION(T, T2, __hmul, a* b)                                                   \
  EMULATOR_SIXTEEN_BIT_OPERATION(T, T2, __hmin, fminf(a, b))                                            \
  EMULATOR_SIXTEEN_BIT_OPERATION(T, T2, __hmax, fmaxf(a, b))                                            \
  inline T __hdiv(T x, T y) {                                                                           \
    return T(static_cast<float>(x) / static_cast<float>(y));                                            \
  }                                                                                                     \
  inline T2 __h2div(T2 x, T2 y) {                                                                       \
    return {__hdiv(x.x, y.x), __hdiv(x.y, y.y)};                                                        \
  }                                                                                                     \
  /* In double the product and the sum are exact but for the last rounding, as in a fused operation. */ \
  inline T __hfma(T x, T y, T z) {                                                                      \
    return T(static_cast<float>(static_cast<double>(static_cast<float>(x)) * static_cast<float>(y) +    \
                                static_cast<float>(z)));                                                \
  }                                                                                                     \
  inline T2 __hfma2(T2 x, T2 y, T2 z) {                                                                 \
    return {__hfma(x.x, y.x, z.x), __hfma(x.y, y.y, z.y)};                                              \
  }                                                                                                     \
  inline T __hneg(T x) {                                                                                \
    return T(-static_cast<float>(x));                                                                   \
  }                                                                                                     \
  inline T2 __hneg2(T2 x) {                                                                             \
    return {__hneg(x.x), __hneg(x.y)};                                                                  \
  }                                                                                                     \
  inline T __habs(T x) {                                                                                \
    return T(fabsf(x));                                                                                 \
  }                                                                                                     \
  inline bool __hisnan(T x) {                                                                           \
    return static_cast<float>(x) != static_cast<float>(x);                                              \
  }                                                                                                     \
  inline int __hisinf(T x) {                                                                            \
    return fabsf(x) == INFINITY ? (static_cast<float>(x) > 0 ? 1 : -1) : 0;                             \
  }                                                                                                     \
  EMULATOR_SIXTEEN_BIT_COMPARISON(T, __heq, ==)                                                         \
  EMULATOR_SIXTEEN_BIT_COMPARISON(T, __hne, !=)                                                         \
  EMULATOR_SIXTEEN_BIT_COMPARISON(T, __hlt, <)                                                          \
  EMULATOR_SIXTEEN_BIT_COMPARISON(T, __hle, <=)                                                         \
  EMULATOR_SIXTEEN_BIT_COMPARISON(T, __hgt, >)                                                          \
  EMULATOR_SIXTEEN_BIT_COMPARISON(T, __hge, >=)                                                         \
  inline float __low2float(T2 value) {                                                                  \
    return value.x;                                                                                     \
  }                                                                                                     \
  inline float __high2float(T2 value) {                                                                 \
    return value.y;                                                                                     \
  }                                                                                                     \
  inline T operator+(T x, T y) {                                                                        \
    return __hadd(x, y);                                                                                \
  }                                                                                                     \
  inline T operator-(T x, T y) {                                                                        \
    return __hsub(x, y);                                                                                \
  }                                                                                                     \
  inline T operator*(T x, T y) {                                                                        \
    return __hmul(x, y);                                                                                \
  }                                                                                                     \
  inline T operator/(T x, T y) {                                                                        \
    return __hdiv(x, y);                                                                                \
  }                                                                                                     \
  inline T operator-(T x) {                                                                             \
    return __hneg(x);                                                                                   \
  }                                                                                                     \
  inline T2 operator+(T2 x, T2 y) {                                                                     \
    return __hadd2(x, y);                                                                               \
  }                                                                                                     \
  inline T2 operator*(T2 x, T2 y) {                                                                     \
    return __hmul2(x, y);                                                                               \
  }
