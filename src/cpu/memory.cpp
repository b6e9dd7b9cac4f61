#include "cpu/memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace shardspeed {

static std::atomic<size_t> held{0};

size_t Memory::totalBytes() {
  return held;
}

Memory::Memory(size_t bytes, const char* purpose, PageKind pages) : bytes_(bytes) {
  if (bytes == 0) return;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    throw Error("ERR_OUT_OF_MEMORY", "the " + std::string(purpose) + " need " + std::to_string(bytes) +
                                         " bytes, which the system refused: " + std::strerror(errno));
  if (pages == PageKind::kHuge) madvise(data, bytes, MADV_HUGEPAGE);  // a wish: it fails where there are none
  data_ = data;
  held += bytes;
}

Memory::~Memory() {
  if (!data_) return;
  munmap(data_, bytes_);
  held -= bytes_;
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace shardspeed
