#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

// The twin of cuda/ptx.cuh: the same functions in C++.

namespace shardspeed::cuda {

using emulator::Site;

inline void cpAsync16(void* shared, const void* global, bool valid = true, Site site = Site::current()) {
  emulator::asyncCopy(shared, global, 16, valid, site);
}
inline void cpAsync8(void* shared, const void* global, bool valid = true, Site site = Site::current()) {
  emulator::asyncCopy(shared, global, 8, valid, site);
}
inline void cpAsyncCommit() {
  emulator::asyncCommit();
}
template <int Pending>
void cpAsyncWait() {
  static_assert(Pending >= 0);
  emulator::asyncWait(Pending);
}

namespace emulated {
inline void ldmatrix(emulator::Collective operation, uint32_t (&out)[4], const void* row, Site site) {
  uint32_t address[2];
  __builtin_memcpy(address, &row, sizeof address);
  emulator::warpCollective(operation, 0xffffffffu, address, 2, out, 4, site);
}
}  // namespace emulated
inline void ldmatrixX4(uint32_t (&out)[4], const void* row, Site site = Site::current()) {
  emulated::ldmatrix(emulator::Collective::kLdmatrix, out, row, site);
}
inline void ldmatrixX4Transposed(uint32_t (&out)[4], const void* row, Site site = Site::current()) {
  emulated::ldmatrix(emulator::Collective::kLdmatrixTransposed, out, row, site);
}

template <typename T>
void mma16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>);
  uint32_t words[10];
  __builtin_memcpy(words, a, sizeof a);
  __builtin_memcpy(words + 4, b, sizeof b);
  __builtin_memcpy(words + 6, d, sizeof d);
  uint32_t result[4];
  emulator::warpCollective(
      std::is_same_v<T, __half> ? emulator::Collective::kMmaHalf : emulator::Collective::kMmaBfloat16, 0xffffffffu,
      words, 10, result, 4, site);
  __builtin_memcpy(d, result, sizeof d);
}

inline float clampedTo(float limit, float value) {
  return value > limit ? limit : value < -limit ? -limit : value;
}

inline uint32_t packHalves(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  uint32_t bits;
  __builtin_memcpy(&bits, &pair, sizeof bits);
  return bits;
}
inline uint32_t packBfloats(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  __builtin_memcpy(&bits, &pair, sizeof bits);
  return bits;
}

inline uint32_t lowHalves(uint32_t a, uint32_t b) {
  return (a & 0xffff) | b << 16;
}
inline uint32_t highHalves(uint32_t a, uint32_t b) {
  return a >> 16 | (b & 0xffff0000);
}

// As far off as the device's may be.
inline float reciprocalFast(float x) {
  return nextafterf(1 / x, 0);
}

inline float exp2Fast(float x) {
  return x < -126 ? 0 : exp2f(x);
}

inline uint4 loadStream16(const void* global, Site site = Site::current()) {
  emulator::checkGlobal16(global, "loadStream16", site);
  return *static_cast<const uint4*>(global);
}

template <typename T>
const T* unforeseen(const T* pointer) {
  return pointer;
}

inline void prefetchL2(const void* global, uint32_t bytes, Site site = Site::current()) {
  emulator::checkGlobal16(global, "prefetchL2", site);
  emulator::checkGlobal(global, static_cast<int>(bytes), "prefetchL2", site);
  emulator::countPrefetch(bytes);
}

inline void pdlWait(Site site = Site::current()) {
  emulator::waitForEarlierKernels(site);
}
inline void pdlTrigger(Site site = Site::current()) {
  emulator::allowLaterKernels(site);
}

inline uint32_t loadAcquire(const uint32_t* address, Site site = Site::current()) {
  emulator::checkOwn(address, "loadAcquire", site);
  emulator::synchronizing(site);
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
inline void storeRelease(uint32_t* address, uint32_t value, Site site = Site::current()) {
  emulator::checkOwn(address, "storeRelease", site);
  emulator::synchronizing(site);
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
  emulator::wrote(site);
}
inline uint32_t ticket(uint32_t* counter, Site site = Site::current()) {
  emulator::checkOwn(counter, "ticket", site);
  emulator::synchronizing(site);
  const uint32_t before = __atomic_fetch_add(counter, 1, __ATOMIC_ACQ_REL);
  emulator::wrote(site);
  return before;
}
inline uint32_t ticketOf(uint32_t* counter, uint32_t count, Site site = Site::current()) {
  emulator::checkOwn(counter, "ticketOf", site);
  emulator::synchronizing(site);
  uint32_t before = __atomic_load_n(counter, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(counter, &before, before + 1 >= count ? 0 : before + 1, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED)) {
  }
  emulator::wrote(site);
  return before;
}
// Order between devices, and with the host.
inline uint32_t loadAcquireSystem(const uint32_t* address, Site site = Site::current()) {
  emulator::checkGlobal(address, 4, "loadAcquireSystem", site);
  emulator::loading(address, site);
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
inline void storeReleaseSystem(uint32_t* address, uint32_t value, Site site = Site::current()) {
  emulator::checkGlobal(address, 4, "storeReleaseSystem", site);
  emulator::storing(site);
  if (emulator::arrives(address)) __atomic_store_n(address, value, __ATOMIC_RELEASE);
  emulator::wrote(site);
}
// Order nothing around them.
inline uint32_t loadRelaxedSystem(const uint32_t* address, Site site = Site::current()) {
  emulator::checkGlobal(address, 4, "loadRelaxedSystem", site);
  emulator::loading(address, site);
  return __atomic_load_n(address, __ATOMIC_RELAXED);
}
inline void storeRelaxedSystem(uint32_t* address, uint32_t value, Site site = Site::current()) {
  emulator::checkGlobal(address, 4, "storeRelaxedSystem", site);
  emulator::storing(site);
  if (emulator::arrives(address)) __atomic_store_n(address, value, __ATOMIC_RELAXED);
  emulator::wrote(site);
}
// Four words, each whole, but not the four together.
inline uint4 loadRelaxedSystem16(const void* address, Site site = Site::current()) {
  emulator::checkGlobal16(address, "loadRelaxedSystem16", site);
  emulator::loading(address, site);
  const auto* words = static_cast<const uint32_t*>(address);
  uint32_t found[4];
  const int order = emulator::wordOrder();
  for (int i = 0; i < 4; ++i) {
    if (i > 0) emulator::betweenWords(false);
    found[i ^ order] = __atomic_load_n(words + (i ^ order), __ATOMIC_RELAXED);
  }
  return {found[0], found[1], found[2], found[3]};
}
inline void storeRelaxedSystem16(void* address, uint4 value, Site site = Site::current()) {
  emulator::checkGlobal16(address, "storeRelaxedSystem16", site);
  emulator::storing(site);
  auto* words = static_cast<uint32_t*>(address);
  const uint32_t parts[4] = {value.x, value.y, value.z, value.w};
  const int order = emulator::wordOrder();
  for (int i = 0; i < 4 && emulator::arrives(address); ++i) {
    if (i > 0) emulator::betweenWords(true);
    __atomic_store_n(words + (i ^ order), parts[i ^ order], __ATOMIC_RELAXED);
  }
  emulator::wrote(site);
}

inline void spinPause(Site site = Site::current()) {
  emulator::pause(site);
}

}  // namespace shardspeed::cuda
