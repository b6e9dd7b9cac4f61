#include "model/tensor_writer.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "check.h"
#include "stored.h"
#include "temp_file.h"

namespace shardspeed::test {

// A path where nothing is, and nothing stays.
struct FreePath {
  FreePath() : source({}), path(source.path() + "-written") {}
  ~FreePath() { std::filesystem::remove(path); }
  bool taken() const { return std::filesystem::exists(path); }
  std::string content() const {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  TempFile source;
  std::string path;
};

// A matrix of fp32 in a file, to be written as two tensors: its left columns in fp16, and all of it transposed.
struct Source {
  explicit Source(int64_t rowCount, int64_t colCount) : rows(rowCount), cols(colCount) {
    std::vector<uint8_t> bytes;
    for (int64_t i = 0; i < rows * cols; ++i) appendStored(DType::kF32, static_cast<float>(i % 2000), bytes);
    file = std::make_unique<TempFile>(bytes);
  }
  WeightView view(std::vector<int64_t> shape, std::vector<int64_t> strides) const {
    WeightView view;
    view.tensor = "the.tensor";
    view.shape = std::move(shape);
    view.strides = std::move(strides);
    return view;
  }
  WritePlan plan(const std::string& path) const {
    WritePlan plan{path, "header", {file->weightFile()}, {}};
    const int64_t left = cols / 2;
    plan.tensors.push_back({rows, left, DType::kF16, {view({rows, left}, {cols, 1})}});
    plan.tensors.push_back({cols, rows, DType::kF32, {view({cols, rows}, {1, cols})}});
    return plan;
  }

  int64_t rows;
  int64_t cols;
  std::unique_ptr<TempFile> file;
};

TEST(tensor_writer, header_and_tensors_one_behind_the_other) {
  for (const int64_t rows : {3, 3000}) {  // some take several chunks
    const Source source(rows, 1000);
    const FreePath target;
    const std::atomic<bool> stop{false};
    std::atomic<int64_t> written{0};
    writeTensors(source.plan(target.path), stop, written);
    std::vector<uint8_t> expected = {'h', 'e', 'a', 'd', 'e', 'r'};
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < 500; ++col)
        appendStored(DType::kF16, static_cast<float>((row * 1000 + col) % 2000), expected);
    for (int64_t col = 0; col < 1000; ++col)
      for (int64_t row = 0; row < rows; ++row)
        appendStored(DType::kF32, static_cast<float>((row * 1000 + col) % 2000), expected);
    CHECK(target.content() == std::string(expected.begin(), expected.end()));
    CHECK_EQ(written.load(), static_cast<int64_t>(expected.size()) - 6);
  }
}

TEST(tensor_writer, nothing_is_left_of_what_fails) {
  const Source source(30, 20);
  std::atomic<bool> stop{false};
  std::atomic<int64_t> written{0};
  const FreePath target;
  WritePlan wrong = source.plan(target.path);
  wrong.tensors[1].rows = 21;
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", writeTensors(wrong, stop, written));
  CHECK(!target.taken());
  CHECK_THROWS("ERR_CHECKPOINT", "cannot be created", writeTensors(source.plan("/proc/none/file"), stop, written));
  CHECK_THROWS("ERR_CHECKPOINT", "cannot be created", writeTensors(source.plan(source.file->path()), stop, written));
  stop = true;
  CHECK_THROWS("ERR_ABORTED", "cancelled", writeTensors(source.plan(target.path), stop, written));
  CHECK(!target.taken());
}

TEST(tensor_writer, a_disk_without_space) {
  // A limit on the size of files fails as a full disk does, in the middle.
  const Source source(300, 200);
  const FreePath target;
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto oldHandler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::atomic<bool> stop{false};
  std::atomic<int64_t> written{0};
  CHECK_THROWS("ERR_CHECKPOINT", "cannot be written", writeTensors(source.plan(target.path), stop, written));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, oldHandler);
  CHECK(!target.taken());
}

}  // namespace shardspeed::test
