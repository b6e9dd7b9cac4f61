#pragma once

#include <cstring>
#include <type_traits>

#include "kernel_side.h"

// Barriers, and what the lanes of a warp do together. Each notes its place in the source: lanes that meet at different
// places are a fault.

inline void __syncthreads(emulator::Site site = emulator::Site::current()) {
  emulator::blockBarrier(emulator::Barrier::kPlain, false, site);
}
inline int __syncthreads_count(int predicate, emulator::Site site = emulator::Site::current()) {
  return emulator::blockBarrier(emulator::Barrier::kCount, predicate != 0, site);
}
inline int __syncthreads_and(int predicate, emulator::Site site = emulator::Site::current()) {
  return emulator::blockBarrier(emulator::Barrier::kAnd, predicate != 0, site);
}
inline int __syncthreads_or(int predicate, emulator::Site site = emulator::Site::current()) {
  return emulator::blockBarrier(emulator::Barrier::kOr, predicate != 0, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, emulator::Site site = emulator::Site::current()) {
  emulator::warpCollective(emulator::Collective::kSync, mask, nullptr, 0, nullptr, 0, site);
}

namespace emulator {

// source: the lane within this one's group of width lanes; keep: whether it is outside, and the value stays.
template <typename T>
T shuffle(unsigned mask, T value, int source, bool keep, int width, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8 && (sizeof(T) == 2 || sizeof(T) % 4 == 0));
  const int lane = running->lane;
  constexpr int kWords = sizeof(T) <= 4 ? 1 : 2;
  uint32_t words[3] = {};
  __builtin_memcpy(words, &value, sizeof value);
  words[kWords] = static_cast<uint32_t>(keep ? lane : (lane & -width) | (source & (width - 1)));
  uint32_t result[2];
  warpCollective(Collective::kShuffle, mask, words, kWords + 1, result, kWords, site);
  __builtin_memcpy(&value, result, sizeof value);
  return value;
}

template <typename T>
T reduceAcrossWarp(Collective operation, unsigned mask, T value, Site site) {
  uint32_t word = static_cast<uint32_t>(value);
  warpCollective(operation, mask, &word, 1, &word, 1, site);
  return static_cast<T>(word);
}

}  // namespace emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, emulator::Site site = emulator::Site::current()) {
  return emulator::shuffle(mask, value, lane, false, width, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int laneMask, int width = 32,
                  emulator::Site site = emulator::Site::current()) {
  // Towards a later group of width lanes the value stays; an earlier one may be read.
  const int lane = emulator::running->lane, source = lane ^ laneMask;
  if (source < (lane & -width)) return emulator::shuffle(mask, value, source, false, 32, site);
  return emulator::shuffle(mask, value, source, source >= (lane & -width) + width, width, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 emulator::Site site = emulator::Site::current()) {
  const int within = emulator::running->lane & (width - 1), source = within - static_cast<int>(delta);
  return emulator::shuffle(mask, value, source, source < 0, width, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   emulator::Site site = emulator::Site::current()) {
  const int within = emulator::running->lane & (width - 1), source = within + static_cast<int>(delta);
  return emulator::shuffle(mask, value, source, source >= width, width, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Site site = emulator::Site::current()) {
  return emulator::reduceAcrossWarp(emulator::Collective::kBallot, mask, static_cast<unsigned>(predicate != 0), site);
}
inline int __any_sync(unsigned mask, int predicate, emulator::Site site = emulator::Site::current()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, emulator::Site site = emulator::Site::current()) {
  return __ballot_sync(mask, predicate, site) == mask;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, emulator::Site site = emulator::Site::current()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint32_t words[2] = {}, result;
  __builtin_memcpy(words, &value, sizeof value);
  emulator::warpCollective(emulator::Collective::kMatch, mask, words, 2, &result, 1, site);
  return result;
}
#define EMULATOR_REDUCE(name, type, operation)                                                   \
  inline type name(unsigned mask, type value, emulator::Site site = emulator::Site::current()) { \
    return emulator::reduceAcrossWarp(emulator::Collective::operation, mask, value, site);       \
  }
EMULATOR_REDUCE(__reduce_add_sync, int, kAdd)
EMULATOR_REDUCE(__reduce_add_sync, unsigned, kAdd)
EMULATOR_REDUCE(__reduce_min_sync, int, kMinSigned)
EMULATOR_REDUCE(__reduce_min_sync, unsigned, kMin)
EMULATOR_REDUCE(__reduce_max_sync, int, kMaxSigned)
EMULATOR_REDUCE(__reduce_max_sync, unsigned, kMax)
EMULATOR_REDUCE(__reduce_and_sync, unsigned, kAnd)
EMULATOR_REDUCE(__reduce_or_sync, unsigned, kOr)
EMULATOR_REDUCE(__reduce_xor_sync, unsigned, kXor)
#undef EMULATOR_REDUCE
