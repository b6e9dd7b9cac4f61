#include "model/tensor_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "model/tiled_row_reader.h"

namespace shardspeed {

namespace {

constexpr int64_t kChunkBytes = 4 << 20;

// Gone again unless it is kept.
class NewFile {
 public:
  explicit NewFile(const std::string& path)
      : path_(path), descriptor_(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail("cannot be created");
  }
  ~NewFile() {
    if (descriptor_ < 0) return;
    close(descriptor_);
    unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(const void* data, size_t bytes) {
    const auto* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t done = ::write(descriptor_, at, bytes);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail("cannot be written");
      at += done;
      bytes -= static_cast<size_t>(done);
    }
  }

  void keep() {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    // Some file systems find out here that there is no space.
    if (close(descriptor) == 0) return;
    const int reason = errno;
    unlink(path_.c_str());
    errno = reason;
    fail("cannot be written");
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error("ERR_CHECKPOINT", path_ + ": " + what + ": " + std::strerror(errno));
  }

  std::string path_;
  int descriptor_;
};

void writeTensor(const WrittenTensor& tensor, const std::vector<std::shared_ptr<const WeightReader>>& files,
                 NewFile& target, const std::atomic<bool>& stop, std::atomic<int64_t>& written) {
  std::vector<const WeightView*> views;
  for (const WeightView& view : tensor.views) views.push_back(&view);
  const auto rows = makeRoleReader(views, files, tensor.rows, tensor.cols, {0, tensor.rows}, {0, tensor.cols});
  const int64_t rowBytes = tensor.cols * static_cast<int64_t>(dtypeSize(tensor.dtype));
  // Where the elements of a row lie apart, some rows cost as much as all.
  const int64_t step = rows->scattered() ? tensor.rows : std::max<int64_t>(1, kChunkBytes / rowBytes);
  std::vector<uint8_t> chunk;
  for (int64_t row = 0; row < tensor.rows; row += step) {
    if (stop) throw Error("ERR_ABORTED", "writing the shards was cancelled");
    const int64_t count = std::min(step, tensor.rows - row);
    chunk.resize(static_cast<size_t>(count * rowBytes));
    rows->read(row, count, tensor.dtype, chunk.data());
    target.write(chunk.data(), chunk.size());
    written += static_cast<int64_t>(chunk.size());
  }
}

}  // namespace

void writeTensors(const WritePlan& plan, const std::atomic<bool>& stop, std::atomic<int64_t>& written) {
  std::vector<std::shared_ptr<const WeightReader>> files;
  for (const WeightFile& file : plan.files) files.push_back(std::make_shared<WeightReader>(file));
  NewFile target(plan.path);
  target.write(plan.header.data(), plan.header.size());
  for (const WrittenTensor& tensor : plan.tensors) writeTensor(tensor, files, target, stop, written);
  target.keep();
}

}  // namespace shardspeed
