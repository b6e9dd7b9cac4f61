#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernel_side.h"

// Atomics order nothing around them (they are relaxed in CUDA); __threadfence() does. On 32- and 64-bit integers and
// float.

namespace emulator {

// compute: what becomes of the value that was there. By way of the value's bits: for ThreadSanitizer there are no
// atomics on floating-point numbers.
template <typename T, typename Compute>
T atomicUpdate(T* address, Site site, Compute compute) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  synchronizing(site);
  auto* bits = reinterpret_cast<Bits*>(address);
  Bits old = __atomic_load_n(bits, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(bits, &old, std::bit_cast<Bits>(static_cast<T>(compute(std::bit_cast<T>(old)))),
                                      false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  wrote(site);
  return std::bit_cast<T>(old);
}

}  // namespace emulator

#define EMULATOR_ATOMIC(type, name, result)                                                      \
  inline type name(type* address, type value, emulator::Site site = emulator::Site::current()) { \
    return emulator::atomicUpdate(address, site, [=](type old) { return result; });              \
  }
// Signed sums wrap around.
#define EMULATOR_ATOMICS(type, unsignedType)                                                                        \
  EMULATOR_ATOMIC(type, atomicAdd, static_cast<unsignedType>(old) + static_cast<unsignedType>(value))               \
  EMULATOR_ATOMIC(type, atomicExch, (static_cast<void>(old), value))                                                \
  EMULATOR_ATOMIC(type, atomicMin, old < value ? old : value)                                                       \
  EMULATOR_ATOMIC(type, atomicMax, old > value ? old : value)                                                       \
  EMULATOR_ATOMIC(type, atomicAnd, old& value)                                                                      \
  EMULATOR_ATOMIC(type, atomicOr, old | value)                                                                      \
  EMULATOR_ATOMIC(type, atomicXor, old ^ value)                                                                     \
  inline type atomicCAS(type* address, type compare, type value, emulator::Site site = emulator::Site::current()) { \
    return emulator::atomicUpdate(address, site, [=](type old) { return old == compare ? value : old; });           \
  }
EMULATOR_ATOMICS(int, unsigned)
EMULATOR_ATOMICS(unsigned, unsigned)
EMULATOR_ATOMICS(unsigned long long, unsigned long long)
EMULATOR_ATOMIC(int, atomicSub, static_cast<unsigned>(old) - static_cast<unsigned>(value))
EMULATOR_ATOMIC(unsigned, atomicSub, old - value)
EMULATOR_ATOMIC(unsigned, atomicInc, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(unsigned, atomicDec, old == 0 || old > value ? value : old - 1)
EMULATOR_ATOMIC(float, atomicAdd, old + value)
EMULATOR_ATOMIC(float, atomicExch, (static_cast<void>(old), value))
#undef EMULATOR_ATOMICS
#undef EMULATOR_ATOMIC

inline void __threadfence() {
  emulator::fence();
}
inline void __threadfence_block() {
  emulator::fence();
}
inline void __threadfence_system() {
  emulator::fence();
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, T value) {
  *address = value;
}
template <typename T>
void __stcg(T* address, T value) {
  *address = value;
}
