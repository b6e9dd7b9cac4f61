#include "runtime/step_message.h"

#include "check.h"
#include "random.h"

namespace shardspeed::test {

TEST(step_message, comes_back_as_it_was) {
  Random random(200);
  ReceivedStep received;
  for (int round = 0; round < 200; ++round) {
    Step step;
    std::vector<int32_t> tokens, types;
    std::vector<std::vector<int32_t>> pages(static_cast<size_t>(random.below(6)));
    for (auto& table : pages) {
      SequenceSlice slice;
      slice.firstRow = step.rows;
      slice.rowCount = 1 + random.below(40);
      slice.contextLength = random.below(100);
      slice.totalLength = slice.contextLength + slice.rowCount + random.below(10);
      slice.generated = slice.rowCount == 1;
      slice.promptClass = random.below(3);
      for (int64_t i = 0; i < 12; ++i) table.push_back(static_cast<int32_t>(random.below(1 << 30)));
      slice.pages = table.data();
      step.rows += slice.rowCount;
      step.sequences.push_back(slice);
    }
    for (int64_t i = 0; i < step.rows; ++i) tokens.push_back(static_cast<int32_t>(random.below(1 << 30)));
    for (int64_t i = random.below(5); i > 0; --i) step.wantedRows.push_back(static_cast<int32_t>(random.below(99)));
    step.tokenIds = tokens.data();
    for (int64_t i = 0; i < step.rows; ++i) types.push_back(static_cast<int32_t>(random.below(2)));
    if (round % 2 && step.rows > 0) step.tokenTypes = types.data();
    step.hiddenRows = random.below(static_cast<int64_t>(step.wantedRows.size()) + 1);
    step.left = random.chance(0.5);
    if (step.left && step.rows > 0) tokens[0] = chosenToken(round);
    for (int64_t i = random.below(4); i > 0; --i)
      step.copies.push_back({static_cast<int32_t>(random.below(1 << 30)), static_cast<int32_t>(random.below(1 << 30))});
    const Group::Bytes message = encodeStep(step);
    decodeStep(message, received);
    CHECK_EQ(received.step.rows, step.rows);
    CHECK(std::equal(tokens.begin(), tokens.end(), received.step.tokenIds));
    CHECK(received.step.wantedRows == step.wantedRows);
    CHECK_EQ(received.step.hiddenRows, step.hiddenRows);
    CHECK_EQ(received.step.left, step.left);
    CHECK(std::equal(received.step.copies.begin(), received.step.copies.end(), step.copies.begin(), step.copies.end(),
                     [](const PageCopy& a, const PageCopy& b) { return a.from == b.from && a.to == b.to; }));
    CHECK_EQ(received.step.tokenTypes != nullptr, step.tokenTypes != nullptr);
    if (step.tokenTypes) CHECK(std::equal(types.begin(), types.end(), received.step.tokenTypes));
    REQUIRE(received.step.sequences.size() == step.sequences.size());
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      const SequenceSlice &found = received.step.sequences[i], &expected = step.sequences[i];
      CHECK_EQ(found.firstRow, expected.firstRow);
      CHECK_EQ(found.rowCount, expected.rowCount);
      CHECK_EQ(found.contextLength, expected.contextLength);
      CHECK_EQ(found.totalLength, expected.totalLength);
      CHECK_EQ(found.generated, expected.generated);
      CHECK_EQ(found.promptClass, expected.promptClass);
      const int64_t count = (expected.contextLength + expected.rowCount + kPageTokens - 1) / kPageTokens;
      CHECK(std::equal(expected.pages, expected.pages + count, found.pages));
    }
    // Half of one, and one with something behind it.
    for (size_t length = 0; length < message.size(); length += 1 + message.size() / 20) {
      const Group::Bytes half(message.begin(), message.begin() + static_cast<int64_t>(length));
      CHECK_THROWS("ERR_COMM", "no description of a step", decodeStep(half, received));
    }
    Group::Bytes longer = message;
    longer.push_back(0);
    CHECK_THROWS("ERR_COMM", "no description of a step", decodeStep(longer, received));
  }
}

TEST(step_message, counts_must_fit_together) {
  ReceivedStep received;
  const std::vector<int32_t> ids = {7, 8};
  Step step;
  step.rows = 2;
  step.tokenIds = step.tokenTypes = ids.data();
  step.wantedRows = {0, 1};
  step.hiddenRows = 2;
  decodeStep(encodeStep(step), received);
  for (const int64_t hiddenRows : {-1, 3}) {
    step.hiddenRows = hiddenRows;
    CHECK_THROWS("ERR_COMM", "no description of a step", decodeStep(encodeStep(step), received));
  }
  // Rows, two tokens, one type, no sequences, no wanted rows, no hidden rows.
  const int32_t numbers[] = {2, 7, 8, 1, 0, 0, 0, 0};
  const auto* bytes = reinterpret_cast<const uint8_t*>(numbers);
  CHECK_THROWS("ERR_COMM", "no description of a step", decodeStep({bytes, bytes + sizeof numbers}, received));
}

TEST(step_message, noise_is_refused_or_read) {
  Random random(201);
  ReceivedStep received;
  for (int round = 0; round < 2000; ++round) {
    Group::Bytes noise(static_cast<size_t>(random.below(200)));
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.below(round % 2 ? 256 : 3));
    try {
      decodeStep(noise, received);
    } catch (const Error& error) {
      CHECK_EQ(error.code(), "ERR_COMM");
    }
  }
}

}  // namespace shardspeed::test
