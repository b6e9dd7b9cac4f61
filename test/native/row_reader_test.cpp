#include "model/row_reader.h"

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "check.h"
#include "group_ranks.h"
#include "random.h"
#include "stored.h"
#include "temp_file.h"
#include "test_threads.h"

namespace shardspeed::test {

static constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
static constexpr DType kStoredDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};

// A file of numbered elements, behind some bytes of something else.
struct Storage {
  Storage(DType storedAs, int64_t count, int64_t headerBytes) : dtype(storedAs), header(headerBytes) {
    Random random(50);
    std::vector<uint8_t> bytes(static_cast<size_t>(header), 0xee);
    for (int64_t i = 0; i < count; ++i) {
      values.push_back(roundedTo(dtype, random.normal(10)));
      appendStored(dtype, values.back(), bytes);
    }
    file = std::make_unique<TempFile>(bytes);
  }

  WeightView view(int64_t firstElement, std::vector<int64_t> shape, std::vector<int64_t> strides) const {
    WeightView view;
    view.role = "role";
    view.tensor = "the.tensor";
    view.dtype = dtype;
    view.byteOffset = header + firstElement * static_cast<int64_t>(dtypeSize(dtype));
    view.shape = std::move(shape);
    view.strides = std::move(strides);
    return view;
  }
  std::unique_ptr<RowReader> reader(const WeightView& view) const {
    return reader(view, {0, viewRows(view)}, {0, viewCols(view)});
  }
  std::unique_ptr<RowReader> reader(const WeightView& view, Range rows, Range cols) const {
    return makeFileRowReader(view, std::make_shared<WeightReader>(file->weightFile()), rows, cols);
  }

  DType dtype;
  int64_t header;
  std::vector<float> values;
  std::unique_ptr<TempFile> file;
};

// Element by element, as weight_plan.h defines a view; read in all chunkings of rows and to all dtypes.
static void checkPart(const Storage& storage, const WeightView& view, int64_t first, Range heldRows, Range heldCols) {
  const auto reader = storage.reader(view, heldRows, heldCols);
  const int64_t rows = heldRows.count, cols = heldCols.count;
  CHECK_EQ(reader->rows(), rows);
  CHECK_EQ(reader->cols(), cols);
  CHECK_EQ(reader->storedRowBytes(), cols * static_cast<int64_t>(dtypeSize(storage.dtype)));
  std::vector<float> expected;
  for (int64_t row = heldRows.first; row < heldRows.first + rows; ++row)
    for (int64_t col = heldCols.first; col < heldCols.first + cols; ++col) {
      int64_t at = first, rest = row * view.shape.back() + col;
      for (size_t d = view.shape.size(); d-- > 0; rest /= view.shape[d]) at += rest % view.shape[d] * view.strides[d];
      expected.push_back(storage.values.at(static_cast<size_t>(at)));
    }
  for (const DType dtype : kDTypes) {
    const size_t size = dtypeSize(dtype);
    for (const int64_t chunk : {rows, int64_t{1}, int64_t{3}}) {
      const Note note(dtypeName(storage.dtype), "to", dtypeName(dtype), "first", first, "chunk", chunk);
      for (int64_t row = 0; row < rows; row += chunk) {
        const int64_t count = std::min(chunk, rows - row);
        std::vector<uint8_t> out(static_cast<size_t>(count * cols) * size + 8, 0xab);
        reader->read(row, count, dtype, out.data());
        for (int64_t i = 0; i < count * cols; ++i) {
          const float wanted = roundedTo(dtype, expected[static_cast<size_t>(row * cols + i)]);
          CHECK_EQ(loadStored(dtype, out.data() + static_cast<size_t>(i) * size), wanted);
        }
        for (size_t i = out.size() - 8; i < out.size(); ++i) CHECK_EQ(static_cast<int>(out[i]), 0xab);
      }
    }
  }
}

// The whole, and parts of it as ranks have them.
static void checkView(const Storage& storage, int64_t first, const std::vector<int64_t>& shape,
                      const std::vector<int64_t>& strides) {
  const WeightView view = storage.view(first, shape, strides);
  const int64_t rows = viewRows(view), cols = viewCols(view);
  checkPart(storage, view, first, {0, rows}, {0, cols});
  if (rows > 2) checkPart(storage, view, first, {rows / 3, rows / 2}, {0, cols});
  if (cols > 2) checkPart(storage, view, first, {0, rows}, {cols / 2, cols - cols / 2});
  if (rows > 2 && cols > 2) checkPart(storage, view, first, {rows - 1, 1}, {1, cols / 2});
}

TEST(row_reader, views_of_every_kind) {
  for (const DType dtype : kStoredDTypes)
    for (const int64_t header : {0, 1, 4093}) {
      const Storage storage(dtype, 6000, header);
      checkView(storage, 0, {20, 30}, {30, 1});
      checkView(storage, 7, {5, 30}, {100, 1});         // rows apart
      checkView(storage, 3, {9, 11}, {40, 3});          // columns apart
      checkView(storage, 0, {30, 20}, {1, 30});         // transposed
      checkView(storage, 5, {7, 4}, {2, 600});          // transposed, both apart
      checkView(storage, 0, {600}, {1});                // a vector
      checkView(storage, 2, {600}, {5});                // every fifth
      checkView(storage, 1, {4, 3, 10}, {120, 10, 1});  // heads within q, k and v
      checkView(storage, 1, {4, 3, 10}, {10, 700, 1});
      checkView(storage, 0, {3, 2, 5}, {1, 3, 6});
      checkView(storage, 5999, {1, 1}, {1, 1});
      checkView(storage, 10, {5, 8}, {0, 1});  // one row again and again
      checkView(storage, 10, {5, 8}, {1, 0});
      checkView(storage, 599, {20, 30}, {-30, 1 - 2});  // from the back to the front
      checkView(storage, 580, {4, 6}, {-100, 2});
      checkView(storage, 50, {4, 6}, {100, -5});
      checkView(storage, 50, {6, 4}, {-5, 100});  // transposed and backwards
    }
}

TEST(row_reader, parts_of_large_tensors) {
  // Rows and columns long enough to be read one by one.
  const Storage storage(DType::kF16, 300 * 400 + 10, 6);
  checkView(storage, 3, {300, 400}, {400, 1});
  checkView(storage, 3, {400, 300}, {1, 400});
  checkView(storage, 300 * 400 - 1, {300, 400}, {-400, -1});
  checkView(storage, 300 * 400 - 1, {400, 300}, {-1, -400});
  checkView(storage, 0, {10, 10, 400}, {12'000, 400, 1});  // q of every head of a fused tensor
}

TEST(row_reader, no_more_is_read_than_a_part_holds) {
  const int64_t rows = 512, cols = 1024;
  const Storage storage(DType::kF16, rows * cols, 0);
  const auto bytesRead = [] {
    std::ifstream counters("/proc/self/io");
    std::string name;
    int64_t count = 0;
    counters >> name >> count;
    return count;
  };
  const auto measure = [&](const WeightView& view, Range heldRows, Range heldCols) {
    const auto reader = storage.reader(view, heldRows, heldCols);
    std::vector<uint8_t> out(static_cast<size_t>(heldRows.count * heldCols.count) * 4);
    const int64_t before = bytesRead();
    reader->read(0, heldRows.count, DType::kF32, out.data());
    return bytesRead() - before;
  };
  if (bytesRead() == 0) SKIP("/proc/self/io tells nothing here");
  const WeightView plain = storage.view(0, {rows, cols}, {cols, 1});
  const WeightView transposed = storage.view(0, {cols, rows}, {1, cols});
  const int64_t quarter = rows * cols / 4 * 2, slack = 8192;
  CHECK(measure(plain, {rows / 4, rows / 4}, {0, cols}) <= quarter + slack);
  CHECK(measure(plain, {0, rows}, {cols / 4, cols / 4}) <= quarter + slack);
  CHECK(measure(transposed, {cols / 2, cols / 4}, {0, rows}) <= quarter + slack);
  CHECK(measure(transposed, {0, cols}, {rows / 2, rows / 4}) <= quarter + slack);
}

TEST(row_reader, random_views) {
  Random random(51);
  const Storage storage(DType::kBF16, 5000, 2);
  int tried = 0;
  while (tried < (kReduced ? 60 : 400)) {
    std::vector<int64_t> shape, strides;
    int64_t low = 0, high = 0;
    for (int64_t d = random.between(1, 4); d > 0; --d) {
      shape.push_back(random.between(1, 9));
      strides.push_back(random.chance(0.3) ? 1 : random.between(-60, 200));
      const int64_t reach = (shape.back() - 1) * strides.back();
      (reach < 0 ? low : high) += reach;
    }
    if (high - low >= 5000) continue;
    const int64_t first = random.between(-low, 4999 - high);
    const Note note("view", tried++);
    checkView(storage, first, shape, strides);
  }
}

TEST(row_reader, float64_is_rounded_to_float32_first_as_torch_does) {
  const double values[] = {1.0 + 0x1p-11 + 0x1p-40, 0.1, 1e-320, 1e300, -1e300, -0.0};
  const auto* bytes = reinterpret_cast<const uint8_t*>(values);
  const TempFile file(std::vector<uint8_t>(bytes, bytes + sizeof values));
  WeightView view;
  view.role = "role";
  view.tensor = "the.tensor";
  view.dtype = DType::kF64;
  view.shape = {6};
  view.strides = {1};
  const auto reader = makeFileRowReader(view, std::make_shared<WeightReader>(file.weightFile()), {0, 1}, {0, 6});
  float wide[6];
  reader->read(0, 1, DType::kF32, wide);
  CHECK_EQ(wide[0], 1.0f + 0x1p-11f);
  CHECK_EQ(wide[1], 0.1f);
  CHECK_EQ(wide[2], 0.0f);
  CHECK(std::isinf(wide[3]) && wide[3] > 0);
  CHECK(std::isinf(wide[4]) && wide[4] < 0);
  CHECK(wide[5] == 0 && std::signbit(wide[5]));
  uint16_t half[6];
  reader->read(0, 1, DType::kF16, half);
  CHECK_EQ(half[0], uint16_t{0x3c00});  // a tie in float32, so to even; from float64 at once it would be the next
}

TEST(row_reader, scattered_rows_are_told) {
  const Storage storage(DType::kF32, 100, 0);
  CHECK(!storage.reader(storage.view(0, {5, 10}, {10, 1}))->scattered());
  CHECK(storage.reader(storage.view(0, {10, 5}, {1, 10}))->scattered());
  CHECK(!storage.reader(storage.view(0, {10, 1}, {1, 10}))->scattered());
}

TEST(row_reader, views_that_reach_outside_the_file) {
  const Storage storage(DType::kF16, 100, 4);
  const auto open = [&](int64_t first, std::vector<int64_t> shape, std::vector<int64_t> strides) {
    storage.reader(storage.view(first, std::move(shape), std::move(strides)));
  };
  open(0, {10, 10}, {10, 1});
  open(-2, {10, 10}, {10, 1});  // into the header: no business of the reader
  for (const int64_t first : {1, 100, 1000000, -3}) {
    const Note note("first", first);
    CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open(first, {10, 10}, {10, 1}));
  }
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open(0, {10, 11}, {10, 1}));
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open(0, {2, 10}, {91, 1}));
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open(5, {3, 2}, {-4, 1}));
  CHECK_THROWS("ERR_CHECKPOINT", "the.tensor", open(0, {2, 2}, {1, int64_t{1} << 40}));
}

TEST(row_reader, files_that_changed_or_are_gone) {
  const Storage storage(DType::kF32, 10, 0);
  WeightFile file = storage.file->weightFile();
  file.bytes += 1;
  CHECK_THROWS("ERR_CHECKPOINT", file.path, WeightReader{file});
  file.bytes -= 2;
  CHECK_THROWS("ERR_CHECKPOINT", "expected 39 bytes, found 40", WeightReader{file});
  file.path += ".missing";
  CHECK_THROWS("ERR_CHECKPOINT", file.path, WeightReader{file});
  std::filesystem::resize_file(storage.file->path(), 20);
  CHECK_THROWS("ERR_CHECKPOINT", "found 20", WeightReader{storage.file->weightFile()});
}

// Somebody truncates the file behind an open reader: an error, and no end of the process.
TEST(row_reader, files_that_shrink_while_they_are_read) {
  const Storage storage(DType::kF16, 10000, 0);
  const auto whole = storage.reader(storage.view(0, {100, 100}, {100, 1}));
  const auto apart = storage.reader(storage.view(0, {100, 50}, {100, 2}));
  std::vector<float> out(10000);
  whole->read(0, 100, DType::kF32, out.data());
  std::filesystem::resize_file(storage.file->path(), 9000);
  whole->read(0, 45, DType::kF16, out.data());
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    CHECK_THROWS("ERR_CHECKPOINT", storage.file->path(), whole->read(0, 100, dtype, out.data()));
    CHECK_THROWS("ERR_CHECKPOINT", "9000", whole->read(44, 2, dtype, out.data()));
    CHECK_THROWS("ERR_CHECKPOINT", "9000", apart->read(0, 100, dtype, out.data()));
  }
}

TEST(row_reader, failures_leave_no_descriptor_open) {
  if (!std::filesystem::exists("/proc/self/fd")) SKIP("this system has no /proc/self/fd");
  const Storage storage(DType::kF32, 10, 0);
  const int before = openDescriptors();
  WeightFile wrong = storage.file->weightFile();
  wrong.bytes = 1;
  for (int i = 0; i < 5; ++i) {
    CHECK_THROWS("ERR_CHECKPOINT", "", WeightReader{wrong});
    CHECK_THROWS("ERR_CHECKPOINT", "", storage.reader(storage.view(0, {100, 100}, {100, 1})));
    storage.reader(storage.view(0, {2, 5}, {5, 1}));
  }
  CHECK_EQ(openDescriptors(), before);
}

TEST(row_reader, more_files_than_may_be_open) {
  constexpr int kFiles = 100;
  std::vector<std::unique_ptr<TempFile>> files;
  for (int i = 0; i < kFiles; ++i)
    files.push_back(std::make_unique<TempFile>(std::vector<uint8_t>(64, static_cast<uint8_t>(i))));
  if (!std::filesystem::exists("/proc/self/fd")) SKIP("this system has no /proc/self/fd");
  const int before = openDescriptors();
  const int most = before + static_cast<int>(WeightReader::kMostOpen);
  std::vector<std::unique_ptr<WeightReader>> readers;
  for (const auto& file : files) readers.push_back(std::make_unique<WeightReader>(file->weightFile()));
  CHECK(openDescriptors() <= most);
  std::atomic<int> wrong{0};
  TestThreads threads;
  for (int t = 0; t < 4; ++t)
    threads.start([&, t] {
      for (int i = 0; i < 5 * kFiles; ++i) {
        uint8_t byte = 0;
        const int file = (i * (t + 1)) % kFiles;
        readers[static_cast<size_t>(file)]->read(7, 1, &byte);
        if (byte != file) ++wrong;
      }
    });
  threads.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK(openDescriptors() <= most);
  // Opened again, it must be the same file.
  uint8_t byte;
  for (size_t i = 50; i < 50 + WeightReader::kMostOpen; ++i) readers[i]->read(0, 1, &byte);
  const TempFile other(std::vector<uint8_t>(64, 200));
  std::filesystem::rename(other.path(), files[0]->path());
  CHECK_THROWS("ERR_CHECKPOINT", "was replaced by another file", readers[0]->read(0, 1, &byte));
  std::filesystem::remove(files[1]->path());
  CHECK_THROWS("ERR_CHECKPOINT", "cannot be opened", readers[1]->read(0, 1, &byte));
  readers.clear();
  CHECK_EQ(openDescriptors(), before);
}

TEST(row_reader, threads_read_at_once) {
  const Storage storage(DType::kF32, 4096, 0);
  const auto reader = storage.reader(storage.view(0, {64, 64}, {1, 64}));
  TestThreads threads;
  std::vector<std::vector<float>> results(4, std::vector<float>(4096));
  for (auto& result : results)
    threads.start([&reader, &result] {
      for (int64_t row = 0; row < 64; row += 4) reader->read(row, 4, DType::kF32, result.data() + row * 64);
    });
  threads.join();
  for (const auto& result : results) CHECK_BITS(result.data(), results[0].data(), 4096);
  CHECK_EQ(results[0][1], storage.values[64]);
}

TEST(row_reader, random_weights_are_the_same_however_they_are_read) {
  for (const int64_t cols : {1, 3, 4, 7, 64}) {
    const Note note("cols", cols);
    const auto reader = makeRandomRowReader("layers.0.mlp.up.weight", cols, {0, 50}, {0, cols}, DType::kF32);
    std::vector<float> whole(static_cast<size_t>(50 * cols));
    reader->read(0, 50, DType::kF32, whole.data());
    for (const int64_t chunk : {1, 7, 16})
      for (int64_t row = 0; row < 50; row += chunk) {
        const int64_t count = std::min<int64_t>(chunk, 50 - row);
        std::vector<float> part(static_cast<size_t>(count * cols));
        reader->read(row, count, DType::kF32, part.data());
        CHECK_BITS(part.data(), whole.data() + row * cols, count * cols);
      }
  }
  std::vector<float> values(400 * 100), other(values.size());
  makeRandomRowReader("a", 100, {0, 400}, {0, 100}, DType::kF32)->read(0, 400, DType::kF32, values.data());
  makeRandomRowReader("b", 100, {0, 400}, {0, 100}, DType::kF32)->read(0, 400, DType::kF32, other.data());
  CHECK(values != other);
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  const auto count = static_cast<double>(values.size());
  CHECK_NEAR(sum / count, 0, 0.003);
  CHECK_NEAR(squares / count, 1.0 / 100, 0.001);  // variance 1 / cols
}

// More values than are made: they repeat, but no row does, and a rank's part has those of the whole.
TEST(row_reader, random_weights_of_large_matrices_are_rows_of_their_own) {
  constexpr int64_t kRows = 700, kCols = 3000;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto size = static_cast<int64_t>(dtypeSize(dtype));
    std::vector<uint8_t> whole(static_cast<size_t>(kRows * kCols * size)), part(static_cast<size_t>(kCols * size));
    makeRandomRowReader("a", kCols, {0, kRows}, {0, kCols}, dtype)->read(0, kRows, dtype, whole.data());
    std::set<std::vector<uint8_t>> different;
    for (int64_t row = 0; row < kRows; ++row) {
      const auto first = whole.begin() + row * kCols * size;
      different.emplace(first, first + kCols * size);
    }
    CHECK_EQ(different.size(), static_cast<size_t>(kRows));
    constexpr int64_t kMade = (1 << 20) - 3;
    CHECK(std::equal(whole.begin() + kMade * size, whole.end(), whole.begin()));
    const auto reader = makeRandomRowReader("a", kCols, {100, 600}, {1000, 1500}, dtype);
    for (int64_t row = 0; row < 600; ++row) {
      reader->read(row, 1, dtype, part.data());
      const uint8_t* expected = whole.data() + ((100 + row) * kCols + 1000) * size;
      CHECK(std::equal(expected, expected + 1500 * size, part.data()));
    }
  }
}

TEST(row_reader, counts_values_that_fp16_cannot_hold) {
  // 65519.99 rounds to the largest number of fp16; infinities and NaN were there before.
  const std::vector<float> values = {1e6f, 65504, 65519.99f, 65520, -70000, INFINITY, -INFINITY, NAN, 1e30f};
  for (const DType stored : {DType::kF32, DType::kF64, DType::kBF16}) {
    std::vector<uint8_t> bytes;
    int64_t expected = 0;
    for (const float value : values) {
      appendStored(stored, value, bytes);
      const float kept = roundedTo(stored, value);
      expected += std::isfinite(kept) && std::abs(kept) >= 65520 ? 1 : 0;
    }
    const TempFile file(bytes);
    WeightView view;
    view.tensor = "the.tensor";
    view.dtype = stored;
    const auto count = static_cast<int64_t>(values.size());
    for (const bool transposed : {false, true}) {
      view.shape = transposed ? std::vector<int64_t>{count, 1} : std::vector<int64_t>{1, count};
      view.strides = {1, 1};
      OverflowCounts overflows;
      const auto reader = makeFileRowReader(view, std::make_shared<WeightReader>(file.weightFile()),
                                            {0, viewRows(view)}, {0, viewCols(view)}, &overflows);
      std::vector<float> wide(values.size());
      std::vector<uint16_t> halves(values.size());
      reader->read(0, reader->rows(), DType::kF32, wide.data());
      reader->read(0, reader->rows(), DType::kBF16, halves.data());
      CHECK(overflows.counts().empty());
      reader->read(0, reader->rows(), DType::kF16, halves.data());
      CHECK_EQ(overflows.counts().size(), size_t{1});
      CHECK_EQ(overflows.counts()["the.tensor"], expected);
    }
  }
}

}  // namespace shardspeed::test
