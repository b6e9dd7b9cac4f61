#include "cuda/step_buffers.h"

#include <bit>

#include "cuda/device.h"

// What kernels read about a step, at the time when they run: each upload is followed by copies of it in the same
// stream.

namespace shardspeed::test {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kSomePages = 64;

// A step of sequences that each have one page more than the one before.
struct Description {
  struct Part {
    int64_t contextLength, rows;
    bool generated;
  };
  explicit Description(const std::vector<Part>& parts, int32_t firstToken) {
    size_t count = 0;
    for (const Part& part : parts) {
      pages.emplace_back();
      for (int64_t page = 0; page * kPageTokens < part.contextLength + part.rows; ++page)
        pages.back().push_back(firstToken + static_cast<int32_t>(count++));
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      SequenceSlice slice;
      slice.firstRow = step.rows;
      slice.rowCount = parts[i].rows;
      slice.contextLength = parts[i].contextLength;
      slice.totalLength = parts[i].contextLength + parts[i].rows;
      slice.generated = parts[i].generated;
      slice.pages = pages[i].data();
      step.sequences.push_back(slice);
      step.rows += parts[i].rows;
    }
    for (int64_t row = 0; row < step.rows; ++row) tokens.push_back(firstToken + static_cast<int32_t>(row));
    step.tokenIds = tokens.data();
  }
  Description(const Description&) = delete;

  Step step;
  std::vector<std::vector<int32_t>> pages;
  std::vector<int32_t> tokens;
};

// Copies of a description, made in the order of the stream. Its own memory is filled before that.
struct Seen {
  Seen() { cuda::check(cudaDeviceSynchronize(), "starting"); }
  void take(const cuda::StepBuffers& buffers, const cuda::Stream& stream) {
    const cuda::StepView& view = buffers.view();
    copy(tokens, view.tokenIds, stream);
    copy(positions, view.positions, stream);
    copy(pageOffsets, view.pageOffsets, stream);
    copy(generated, buffers.generatedRows(), stream);
    copy(prompts, buffers.promptRows(), stream);
    copy(wanted, buffers.wantedRows(), stream);
    copy(pages, view.pages, stream);
    copy(types, view.tokenTypes, stream);
    copy(lengths, view.lengths, stream);
  }
  static void copy(const DeviceArray<int32_t>& to, const int32_t* from, const cuda::Stream& stream) {
    cuda::check(cudaMemcpyAsync(to.data(), from, kRows * sizeof(int32_t), cudaMemcpyDeviceToDevice, stream.get()),
                "cudaMemcpyAsync");
  }
  DeviceArray<int32_t> tokens{kRows}, positions{kRows}, pageOffsets{kRows}, generated{kRows}, prompts{kRows},
      wanted{kRows}, pages{kRows}, types{kRows}, lengths{kRows};
};

// The first of the numbers, and -1 behind them, up to the rows that the step is filled up to.
std::vector<int32_t> padded(std::vector<int32_t> numbers, size_t rows) {
  numbers.resize(rows, -1);
  return numbers;
}

std::vector<int32_t> counted(int32_t first, int64_t count) {
  std::vector<int32_t> numbers;
  for (int32_t i = 0; i < count; ++i) numbers.push_back(first + i);
  return numbers;
}

void checkNumbers(const DeviceArray<int32_t>& found, const std::vector<int32_t>& expected) {
  CHECK_BITS(found.read().data(), expected.data(), static_cast<int64_t>(expected.size()));
}

}  // namespace

// Two host buffers take turns: from the third step on, one is written that an earlier step was copied from.
TEST(cuda_step_buffers, steps_are_described_while_earlier_ones_wait) {
  underAllSchedules([] {
    const cuda::Stream stream;
    cuda::StepBuffers buffers(kRows, kSomePages);
    std::vector<Seen> seen(7);
    for (int32_t i = 0; i < 7; ++i) {
      Description description({{0, 10, false}}, 100 * (i + 1));
      description.step.wantedRows = {9};
      buffers.upload(description.step, {10, 1, false}, stream);
      seen[static_cast<size_t>(i)].take(buffers, stream);
    }
    stream.wait("the copies");
    for (int32_t i = 0; i < 7; ++i) {
      const Note note("step", i);
      checkNumbers(seen[static_cast<size_t>(i)].tokens, counted(100 * (i + 1), 10));
      CHECK_EQ(seen[static_cast<size_t>(i)].pages.read()[0], 100 * (i + 1));
    }
  });
}

// Rows that only fill a step up are none, whatever a larger step has left in both buffers.
TEST(cuda_step_buffers, rows_that_fill_a_step_up_are_none) {
  const cuda::Stream stream;
  cuda::StepBuffers buffers(kRows, kSomePages);
  const auto upload = [&](int64_t rows, int64_t paddedRows) {
    Description description(std::vector<Description::Part>(static_cast<size_t>(rows), {20, 1, true}), 50);
    for (int32_t row = 0; row < rows; ++row) description.step.wantedRows.push_back(row);
    buffers.upload(description.step, {paddedRows, paddedRows, true}, stream);
    stream.wait("a step");
  };
  for (int i = 0; i < 2; ++i) upload(kRows, kRows);
  for (const int64_t rows : {3, 3, 5, 1}) {
    const Note note("rows", rows);
    upload(rows, 8);
    Seen seen;
    seen.take(buffers, stream);
    stream.wait("the copies");
    checkNumbers(seen.positions, padded(std::vector<int32_t>(static_cast<size_t>(rows), 20), 8));
    checkNumbers(seen.generated, padded(counted(0, rows), 8));
    checkNumbers(seen.wanted, padded(counted(0, rows), 8));
    checkNumbers(seen.prompts, padded({}, 8));
    CHECK_EQ(buffers.generatedCount(), 8);
    CHECK_EQ(buffers.promptCount(), 0);
    CHECK(buffers.decodeParts() ==
          std::vector<int64_t>({static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows)))}));
  }
}

// Rows that see each other's are in parts that are computed one behind another, and share a page table.
TEST(cuda_step_buffers, rows_that_follow_others_are_in_later_parts) {
  const cuda::Stream stream;
  cuda::StepBuffers buffers(kRows, kSomePages);
  Description description(
      {{30, 1, true}, {31, 1, true}, {32, 1, true}, {5, 1, true}, {6, 1, true}, {0, 3, false}, {9, 1, true}}, 70);
  const std::vector<int64_t> follows = {0, 1, 2, 0, 1, 0, 0};
  for (size_t i = 0; i < follows.size(); ++i) {
    description.step.sequences[i].follows = follows[i];
    description.step.wantedRows.push_back(static_cast<int32_t>(description.step.sequences[i].firstRow));
  }
  // The tables of a sequence have the same beginning; positions 32 and up are in a page more.
  const std::vector<std::vector<int32_t>> tables = {{1, 2}, {1, 2}, {1, 2, 3}, {4}, {4}, {5}, {6}};
  for (size_t i = 0; i < tables.size(); ++i) description.step.sequences[i].pages = tables[i].data();
  buffers.upload(description.step, {9, 7, false}, stream);
  Seen seen;
  seen.take(buffers, stream);
  stream.wait("the copies");
  CHECK(buffers.decodeParts() == std::vector<int64_t>({3, 2, 1}));
  CHECK_EQ(buffers.generatedCount(), 6);
  const std::vector<int32_t> positions = seen.positions.read(), offsets = seen.pageOffsets.read();
  const std::vector<int32_t> expectedPositions = {30, 5, 9, 31, 6, 32, 0, 1, 2};
  const std::vector<int32_t> expectedOffsets = {0, 3, 5, 0, 3, 0, 4, 4, 4};
  for (size_t i = 0; i < 9; ++i) {
    const Note note("row", i);
    CHECK_EQ(positions[i], expectedPositions[i]);
    CHECK_EQ(offsets[i], expectedOffsets[i]);
  }
  const std::vector<int32_t> pages = seen.pages.read();
  for (int32_t i = 0; i < 6; ++i) CHECK_EQ(pages[static_cast<size_t>(i)], i + 1);
  checkNumbers(seen.wanted, padded({0, 3, 5, 1, 4, 6, 2}, 9));
}

// On the device generated rows come first; wanted rows are told by their places there.
TEST(cuda_step_buffers, generated_rows_come_before_prompts) {
  const cuda::Stream stream;
  cuda::StepBuffers buffers(kRows, kSomePages);
  Description description({{0, 3, false}, {17, 1, true}, {30, 2, false}, {5, 1, true}}, 40);
  description.step.wantedRows = {2, 3, 5, 6};
  const std::vector<int32_t> types = {0, 1, 2, 3, 4, 5, 6};
  description.step.tokenTypes = types.data();
  buffers.upload(description.step, {description.step.rows, 4, false}, stream);
  stream.wait("a step");
  Seen seen;
  seen.take(buffers, stream);
  stream.wait("the copies");
  checkNumbers(seen.tokens, padded({43, 46, 40, 41, 42, 44, 45}, 7));
  checkNumbers(seen.positions, padded({17, 5, 0, 1, 2, 30, 31}, 7));
  checkNumbers(seen.pageOffsets, padded({1, 5, 0, 0, 0, 3, 3}, 7));
  checkNumbers(seen.pages, {40, 41, 42, 43, 44, 45});
  checkNumbers(seen.wanted, padded({4, 0, 6, 1}, 7));
  checkNumbers(seen.types, padded({3, 6, 0, 1, 2, 4, 5}, 7));
  checkNumbers(seen.lengths, padded({18, 6, 3, 3, 3, 32, 32}, 7));
  CHECK_EQ(buffers.generatedCount(), 2);
  CHECK_EQ(buffers.promptCount(), 5);
  CHECK(buffers.decodeParts() == std::vector<int64_t>({2}));
  CHECK_EQ(buffers.tileCount(), 2);
}

// Behind them the rows of short prompts, then those of longer ones, each in the order of the step.
TEST(cuda_step_buffers, prompts_are_sorted_by_class) {
  const cuda::Stream stream;
  cuda::StepBuffers buffers(kRows, kSomePages);
  Description description({{0, 2, false}, {7, 3, false}, {9, 1, true}, {0, 1, false}, {4, 2, false}}, 40);
  const std::vector<int64_t> classes = {0, 2, 0, 1, 2};
  for (size_t i = 0; i < classes.size(); ++i) description.step.sequences[i].promptClass = classes[i];
  description.step.wantedRows = {1, 4, 6, 8};
  buffers.upload(description.step, {description.step.rows, 4, false}, stream);
  Seen seen;
  seen.take(buffers, stream);
  stream.wait("the copies");
  checkNumbers(seen.tokens, {45, 42, 43, 44, 47, 48, 46, 40, 41});
  checkNumbers(seen.positions, {9, 7, 8, 9, 4, 5, 0, 0, 1});
  checkNumbers(seen.prompts, {1, 2, 3, 4, 5, 6, 7, 8});
  checkNumbers(seen.wanted, {8, 3, 6, 5});
  CHECK(buffers.promptsByClass() == cuda::PromptRows({2, 1, 5}));
  CHECK_EQ(buffers.generatedCount(), 1);
  buffers.upload(Description({{0, 3, false}}, 1).step, {3, 0, false}, stream);
  CHECK(buffers.promptsByClass() == cuda::PromptRows({3, 0, 0}));
  description.step.sequences[1].promptClass = 3;
  CHECK_THROWS("ERR_NATIVE", "unknown class", buffers.upload(description.step, {9, 4, false}, stream));
  stream.wait("a step");
}

#ifdef SHARDSPEED_CUDA_EMULATOR
// What is copied is what a step uses, and not what the largest one would.
TEST(cuda_step_buffers, a_row_costs_no_more_where_steps_may_be_large) {
  for (const int64_t maxRows : {16, 8192}) {
    const Note note("rows of a step", maxRows);
    const cuda::Stream stream;
    cuda::StepBuffers buffers(maxRows, kSomePages);
    Description description({{20, 1, true}}, 50);
    description.step.wantedRows = {0};
    const uint64_t before = emulator::copiedBytes();
    buffers.upload(description.step, {1, 1, true}, stream);
    stream.wait("a step");
    CHECK_EQ(emulator::copiedBytes() - before, 16 * sizeof(int32_t));  // two of them are its page table
    int32_t page = 0, position = 0;
    cuda::check(cudaMemcpy(&page, buffers.view().pages + 1, sizeof page, cudaMemcpyDeviceToHost), "cudaMemcpy");
    cuda::check(cudaMemcpy(&position, buffers.view().positions, sizeof position, cudaMemcpyDeviceToHost), "cudaMemcpy");
    CHECK_EQ(page, 51);
    CHECK_EQ(position, 20);
  }
}
#endif

// Sequences are cut by their own lengths; what fills the items up is none.
TEST(cuda_step_buffers, attention_is_listed_by_what_sequences_need) {
  const cuda::Stream stream;
  cuda::StepBuffers buffers(kRows, kSomePages);
  buffers.setDecode({8, 1, 64}, 64);
  Description description({{20, 1, true}, {512, 1, true}, {100, 1, true}}, 50);
  buffers.upload(description.step, {4, 4, true}, stream);
  stream.wait("a step");
  CHECK(buffers.decodeParts() == std::vector<int64_t>({8}));
  const std::vector<int32_t> expected = {1, 0, 0, 1, 1, 0, 1, 2, 0, 1, 3, 0, 1, 4, 0, 2, 0, 5, 0, 0, 5, -1, -1, -1};
  std::vector<int32_t> found(expected.size());
  cuda::check(cudaMemcpy(found.data(), buffers.decodeItems(), found.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
              "cudaMemcpy");
  for (size_t i = 0; i < found.size(); ++i) {
    const Note note("integer", i);
    CHECK_EQ(found[i], expected[i]);
  }
}

TEST(cuda_step_buffers, too_much_for_the_plan_is_refused) {
  const cuda::Stream stream;
  cuda::StepBuffers buffers(kRows, 2);
  const Description two({{2 * kTableEntriesPerPage * kPageTokens - 1, 1, true}}, 1);
  const Description three({{2 * kTableEntriesPerPage * kPageTokens, 1, true}}, 1);
  buffers.upload(two.step, {1, 0, true}, stream);
  CHECK_THROWS("ERR_NATIVE", "page tables", buffers.upload(three.step, {1, 0, true}, stream));
  CHECK_THROWS("ERR_NATIVE", "more rows than were planned", buffers.upload(two.step, {kRows + 1, 0, true}, stream));
  CHECK_THROWS("ERR_NATIVE", "more rows than were planned", buffers.upload(two.step, {1, kRows + 1, true}, stream));
  stream.wait("a step");
}

}  // namespace shardspeed::test
