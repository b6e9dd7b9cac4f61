#include "runtime/step_message.h"

#include <cstring>

#include "base/error.h"

namespace shardspeed {

namespace {

// 32-bit numbers, little-endian as on all supported processors.
class Writer {
 public:
  explicit Writer(Group::Bytes& bytes) : bytes_(bytes) {}
  void number(int64_t value) {
    const auto narrow = static_cast<int32_t>(value);
    numbers(&narrow, 1);
  }
  void numbers(const int32_t* values, size_t count) {
    const size_t at = bytes_.size();
    bytes_.resize(at + count * sizeof(int32_t));
    if (count > 0) std::memcpy(bytes_.data() + at, values, count * sizeof(int32_t));
  }

 private:
  Group::Bytes& bytes_;
};

class Reader {
 public:
  explicit Reader(const Group::Bytes& bytes) : bytes_(bytes) {}
  int32_t number() {
    int32_t value;
    numbers(&value, 1);
    return value;
  }
  void numbers(int32_t* values, size_t count) {
    if (count > (bytes_.size() - at_) / sizeof(int32_t)) fail();
    if (count > 0) std::memcpy(values, bytes_.data() + at_, count * sizeof(int32_t));
    at_ += count * sizeof(int32_t);
  }
  void numbers(std::vector<int32_t>& values) {
    const auto count = static_cast<size_t>(number());
    if (count > (bytes_.size() - at_) / sizeof(int32_t)) fail();
    values.resize(count);
    numbers(values.data(), count);
  }
  void require(bool sound) const {
    if (!sound) fail();
  }
  void finish() const { require(at_ == bytes_.size()); }

 private:
  [[noreturn]] static void fail() {
    throw Error("ERR_COMM",
                "rank 0 sent something that is no description of a step: do all ranks run the same version?");
  }

  const Group::Bytes& bytes_;
  size_t at_ = 0;
};

}  // namespace

Group::Bytes encodeStep(const Step& step) {
  Group::Bytes message;
  Writer writer(message);
  writer.number(step.rows);
  writer.numbers(step.tokenIds, static_cast<size_t>(step.rows));
  const bool typed = step.tokenTypes != nullptr;
  writer.number(typed ? step.rows : 0);
  if (typed) writer.numbers(step.tokenTypes, static_cast<size_t>(step.rows));
  writer.number(static_cast<int64_t>(step.sequences.size()));
  for (const SequenceSlice& slice : step.sequences) {
    writer.number(slice.firstRow);
    writer.number(slice.rowCount);
    writer.number(slice.contextLength);
    writer.number(slice.totalLength);
    writer.number(slice.generated);
    writer.number(slice.follows);
    writer.number(slice.promptClass);
    const int64_t pages = (slice.contextLength + slice.rowCount + kPageTokens - 1) / kPageTokens;
    writer.number(pages);
    writer.numbers(slice.pages, static_cast<size_t>(pages));
  }
  writer.number(static_cast<int64_t>(step.wantedRows.size()));
  writer.numbers(step.wantedRows.data(), step.wantedRows.size());
  writer.number(step.hiddenRows);
  writer.number(step.left ? 1 : 0);
  writer.number(static_cast<int64_t>(step.copies.size()));
  for (const auto& [from, to] : step.copies) {
    writer.number(from);
    writer.number(to);
  }
  return message;
}

void decodeStep(const Group::Bytes& message, ReceivedStep& received) {
  Reader reader(message);
  Step& step = received.step;
  reader.numbers(received.tokenIds);
  step.rows = static_cast<int64_t>(received.tokenIds.size());
  step.tokenIds = received.tokenIds.data();
  reader.numbers(received.tokenTypes);
  reader.require(received.tokenTypes.empty() || received.tokenTypes.size() == received.tokenIds.size());
  step.tokenTypes = received.tokenTypes.empty() ? nullptr : received.tokenTypes.data();
  const int32_t sequences = reader.number();
  step.sequences.clear();
  for (int32_t i = 0; i < sequences; ++i) {
    if (received.pages.size() <= static_cast<size_t>(i)) received.pages.emplace_back();
    std::vector<int32_t>& pages = received.pages[static_cast<size_t>(i)];
    SequenceSlice slice;
    slice.firstRow = reader.number();
    slice.rowCount = reader.number();
    slice.contextLength = reader.number();
    slice.totalLength = reader.number();
    slice.generated = reader.number() != 0;
    slice.follows = reader.number();
    reader.require(slice.follows >= 0 && slice.follows <= i);
    slice.promptClass = reader.number();
    reader.require(slice.promptClass >= 0);
    reader.numbers(pages);
    slice.pages = pages.data();
    step.sequences.push_back(slice);
  }
  reader.numbers(step.wantedRows);
  step.hiddenRows = reader.number();
  reader.require(step.hiddenRows >= 0 && step.headRows() >= 0);
  step.left = reader.number() != 0;
  step.copies.clear();
  for (int32_t left = reader.number(); left > 0; --left) {
    const int32_t from = reader.number();
    step.copies.push_back({from, reader.number()});
  }
  reader.finish();
}

}  // namespace shardspeed
