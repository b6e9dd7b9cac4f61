#pragma once

#include <cstddef>

namespace shardspeed {

// Zeroed memory straight from the system: pages are taken when they are first written, in huge pages where the system
// has them, and given back at once.
// Huge pages make long reads quicker. Memory that is used bit by bit does without, or each first byte would take 2 MB.
enum class PageKind { kNormal, kHuge };

class Memory {
 public:
  Memory() = default;
  // Throws ERR_OUT_OF_MEMORY naming what it was for.
  Memory(size_t bytes, const char* purpose, PageKind pages = PageKind::kNormal);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  // Of all that there are now, for tests.
  static size_t totalBytes();

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace shardspeed
