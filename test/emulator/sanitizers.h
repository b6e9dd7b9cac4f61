#pragma once

#include <cstddef>

// What sanitizers must be told about fibers and memory. ThreadSanitizer's functions are there or not at link time: the
// sources here are compiled without -fsanitize=thread, so that only what kernels do is checked.

#ifdef __SANITIZE_THREAD__
#error "The emulator's own sources must be compiled without -fsanitize=thread: see emulator.h."
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" {
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void* fiber);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
[[gnu::weak]] void __tsan_read_range(void* address, size_t bytes);
[[gnu::weak]] void __tsan_write_range(void* address, size_t bytes);
}

namespace emulator {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kAsan = true;
inline void poison(const void* address, size_t bytes) {
  __asan_poison_memory_region(address, bytes);
}
inline void unpoison(const void* address, size_t bytes) {
  __asan_unpoison_memory_region(address, bytes);
}
#else
constexpr bool kAsan = false;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
#endif

inline bool tsan() {
  return __tsan_create_fiber != nullptr;
}
// Everything before a release happens before what follows an acquire of the same tag.
inline void tsanAcquire(void* tag) {
  if (tsan()) __tsan_acquire(tag);
}
inline void tsanRelease(void* tag) {
  if (tsan()) __tsan_release(tag);
}
inline void tsanRead(const void* address, size_t bytes) {
  if (tsan()) __tsan_read_range(const_cast<void*>(address), bytes);
}
inline void tsanWrite(void* address, size_t bytes) {
  if (tsan()) __tsan_write_range(address, bytes);
}

}  // namespace emulator
