#include "cuda/advance.h"

#include "backend.h"
#include "cuda/device.h"

// Chosen tokens on their way into the next step.

namespace shardspeed::test {

namespace {

// Known ones, tokens of other rows in another order, and what fills a step up.
std::vector<int32_t> idsOf(int64_t rows, int64_t chosen) {
  std::vector<int32_t> ids;
  for (int64_t row = 0; row < rows; ++row)
    ids.push_back(row % 5 == 4   ? -1
                  : row % 3 == 2 ? static_cast<int32_t>(row * 1000)
                                 : chosenToken((row * 7) % chosen));
  return ids;
}

int32_t tokenOf(int64_t index) {
  return static_cast<int32_t>((index * 41231 + 3) % (1 << 20));
}

std::vector<int32_t> placed(std::vector<int32_t> ids) {
  for (int32_t& id : ids)
    if (isChosenToken(id)) id = tokenOf(-2 - id);
  return ids;
}

}  // namespace

TEST(cuda_advance, tokens_take_their_places) {
  underAllSchedules([] {
    for (const int64_t rows : {1, 2, 33, 256, 300}) {
      const Note note("rows", rows);
      std::vector<cuda::SampleResult> results(256);
      for (size_t i = 0; i < results.size(); ++i) results[i].token = tokenOf(static_cast<int64_t>(i));
      const std::vector<int32_t> ids = idsOf(rows, 256);
      DeviceArray<cuda::SampleResult> chosen(results);
      DeviceArray<int32_t> found(ids);
      cuda::placeTokens(chosen.data(), rows, found.data(), nullptr);
      CHECK(found.read() == placed(ids));
    }
  });
}

// A token that a row has counted, one that is in its prompt alone, one that is new, a row that knows all of its tokens.
TEST(cuda_advance, tokens_are_counted) {
  underAllSchedules([] {
    constexpr int32_t kOthers = 600;
    std::vector<cuda::SampleResult> results(3);
    for (int32_t i = 0; i < 3; ++i) results[static_cast<size_t>(i)].token = 900 + i;
    std::vector<cuda::SampleRow> rows(4);
    std::vector<cuda::TokenCount> counts;
    for (int32_t row = 0; row < 4; ++row) {
      rows[static_cast<size_t>(row)].firstCount = static_cast<int32_t>(counts.size());
      for (int32_t other = 0; other < kOthers; ++other) counts.push_back({other, 1, 0});
      rows[static_cast<size_t>(row)].unknown = row < 3 ? 2 - row : -1;
      if (row < 3) counts.push_back({-1, 0, 0});
      rows[static_cast<size_t>(row)].countEntries = row < 3 ? kOthers + 1 : kOthers;
    }
    counts[500] = {902, 2, 0};
    counts[kOthers + 1 + 500] = {901, 0, 0};
    counts[3 * (kOthers + 1) + kOthers - 1] = {900, 7, 0};
    std::vector<cuda::TokenCount> expected = counts;
    expected[500].count = 3;
    expected[kOthers + 1 + 500].count = 1;
    expected[3 * (kOthers + 1) - 1] = {900, 1, 0};
    const DeviceArray<cuda::SampleResult> chosen(results);
    const DeviceArray<cuda::SampleRow> wishes(rows);
    const DeviceArray<cuda::TokenCount> found(counts);
    cuda::countTokens(wishes.data(), found.data(), chosen.data(), 4, nullptr);
    const std::vector<cuda::TokenCount> values = found.read();
    for (size_t i = 0; i < values.size(); ++i) {
      const Note note("entry", i);
      CHECK_EQ(values[i].token, expected[i].token);
      CHECK_EQ(values[i].count, expected[i].count);
    }
  });
}

// From the first rank to another: what the sum of digits and zeros says.
TEST(cuda_advance, tokens_are_spelled_and_read) {
  underAllSchedules([] {
    for (const int64_t rows : {1, 2, 33, 256}) {
      const Note note("rows", rows);
      const std::vector<int32_t> ids = idsOf(rows, 256);
      const int64_t count = rows * cuda::kTokenDigits + 5;
      DeviceArray<int32_t> first(placed(ids)), other(ids);
      DeviceArray<float> digits(static_cast<size_t>(count)), zeros(static_cast<size_t>(count));
      cuda::spellTokens(first.data(), rows, digits.data(), count, nullptr);
      cuda::spellTokens(nullptr, rows, zeros.data(), count, nullptr);
      for (const float zero : zeros.read()) CHECK_EQ(zero, 0.0f);
      const std::vector<float> spelled = digits.read();
      for (size_t i = 0; i < spelled.size(); ++i) CHECK(spelled[i] >= 0 && spelled[i] < 256);
      for (size_t i = spelled.size() - 5; i < spelled.size(); ++i) CHECK_EQ(spelled[i], 0.0f);
      cuda::readTokens(digits.data(), rows, other.data(), nullptr);
      CHECK(other.read() == placed(ids));
    }
  });
}

}  // namespace shardspeed::test
