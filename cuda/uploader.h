#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "cuda/memory.h"

namespace shardspeed::cuda {

// Brings weights to the device from several threads at once: rows are copied into pinned memory, padded there, and sent
// while the next ones are read. Any thread may call; each waits only for a free buffer.
class Uploader {
 public:
  explicit Uploader(int device) : device_(device) {}
  ~Uploader() { cudaStreamSynchronize(stream_.get()); }  // what is under way reads the buffers
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;
  // Writes `count` rows of rowBytes to `target`, where each takes strideBytes; the rest of a row becomes zero.
  void write(void* target, int64_t count, size_t rowBytes, size_t strideBytes, const void* rows);
  // Waits until all that was written has arrived.
  void finish();

 private:
  static constexpr size_t kBufferBytes = 4 << 20;
  struct Buffer {
    PinnedMemory memory;
    Event sent;
    bool busy = false;
  };
  Buffer& take();
  void give(Buffer& buffer);

  int device_;
  std::mutex mutex_;
  std::condition_variable free_;
  Stream stream_;
  std::array<Buffer, 4> buffers_;
};

}  // namespace shardspeed::cuda
