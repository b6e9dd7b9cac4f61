#include "cuda/uploader.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

Uploader::Buffer& Uploader::take() {
  std::unique_lock<std::mutex> lock(mutex_);
  Buffer* found = nullptr;
  free_.wait(lock, [&] {
    for (Buffer& buffer : buffers_)
      if (!buffer.busy && !found) found = &buffer;
    return found != nullptr;
  });
  found->busy = true;
  return *found;
}

void Uploader::give(Buffer& buffer) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    buffer.busy = false;
  }
  free_.notify_one();
}

void Uploader::write(void* target, int64_t count, size_t rowBytes, size_t strideBytes, const void* rows) {
  check(cudaSetDevice(device_), "choosing the device");
  if (strideBytes > kBufferBytes) throw Error("ERR_NATIVE", "a row of weights is longer than the upload buffer");
  const auto rowsAtOnce = static_cast<int64_t>(kBufferBytes / strideBytes);
  for (int64_t first = 0; first < count; first += rowsAtOnce) {
    const int64_t some = std::min(rowsAtOnce, count - first);
    Buffer& buffer = take();
    try {
      if (!buffer.memory.as()) buffer.memory = PinnedMemory(kBufferBytes, "loading weights");
      buffer.sent.wait("loading weights");  // what was in it before
      auto* staged = buffer.memory.as<uint8_t>();
      for (int64_t row = 0; row < some; ++row) {
        uint8_t* to = staged + static_cast<size_t>(row) * strideBytes;
        std::memcpy(to, static_cast<const uint8_t*>(rows) + static_cast<size_t>(first + row) * rowBytes, rowBytes);
        std::memset(to + rowBytes, 0, strideBytes - rowBytes);
      }
      check(cudaMemcpyAsync(static_cast<uint8_t*>(target) + static_cast<size_t>(first) * strideBytes, staged,
                            static_cast<size_t>(some) * strideBytes, cudaMemcpyHostToDevice, stream_.get()),
            "loading weights");
      buffer.sent.record(stream_);
    } catch (...) {
      give(buffer);
      throw;
    }
    give(buffer);
  }
}

void Uploader::finish() {
  stream_.wait("loading weights");
}

}  // namespace shardspeed::cuda
