#pragma once

// CUDA's vector types, with the alignments that its programming guide lists.

#define EMULATOR_VECTOR1(name, element)      \
  struct name##1 {                           \
    element x;                               \
  };                                         \
  inline name##1 make_##name##1(element x) { \
    return {x};                              \
  }
#define EMULATOR_VECTOR2(name, element, alignment)      \
  struct alignas(alignment) name##2 {                   \
    element x, y;                                       \
  };                                                    \
  inline name##2 make_##name##2(element x, element y) { \
    return {x, y};                                      \
  }
#define EMULATOR_VECTOR3(name, element)                            \
  struct name##3 {                                                 \
    element x, y, z;                                               \
  };                                                               \
  inline name##3 make_##name##3(element x, element y, element z) { \
    return {x, y, z};                                              \
  }
#define EMULATOR_VECTOR4(name, element, alignment)                            \
  struct alignas(alignment) name##4 {                                         \
    element x, y, z, w;                                                       \
  };                                                                          \
  inline name##4 make_##name##4(element x, element y, element z, element w) { \
    return {x, y, z, w};                                                      \
  }
#define EMULATOR_VECTORS(name, element, alignment2, alignment4) \
  EMULATOR_VECTOR1(name, element)                               \
  EMULATOR_VECTOR2(name, element, alignment2)                   \
  EMULATOR_VECTOR3(name, element)                               \
  EMULATOR_VECTOR4(name, element, alignment4)

EMULATOR_VECTORS(char, signed char, 2, 4)
EMULATOR_VECTORS(uchar, unsigned char, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(ushort, unsigned short, 4, 8)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(uint, unsigned, 8, 16)
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTOR2(longlong, long long, 16)
EMULATOR_VECTOR2(ulonglong, unsigned long long, 16)
EMULATOR_VECTOR2(double, double, 16)

#undef EMULATOR_VECTORS
#undef EMULATOR_VECTOR1
#undef EMULATOR_VECTOR2
#undef EMULATOR_VECTOR3
#undef EMULATOR_VECTOR4

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
