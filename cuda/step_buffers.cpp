#include "cuda/step_buffers.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

int64_t StepBuffers::paddedRows(int64_t rows) {
  if (rows > kMostGraphRows) return rows;
  for (const int64_t size : {1, 2, 4, 8, 16, 24, 32, 48, 64})
    if (rows <= size) return size;
  return (rows + 31) / 32 * 32;
}

size_t StepBuffers::bytesOf(int64_t maxRows, int64_t kvPages) {
  return static_cast<size_t>(kPages * paddedRows(maxRows) + kvPages) * sizeof(int32_t);
}

StepBuffers::StepBuffers(int64_t maxRows, int64_t kvPages)
    : rows_(paddedRows(maxRows)), pages_(kvPages), device_(bytesOf(maxRows, kvPages), "the description of a step") {
  for (HostBuffer& buffer : host_) buffer.packed = PinnedMemory(device_.bytes(), "the description of a step");
  view_ = {at(kTokenIds),      at(kPositions), at(kPageOffsets), at(kPages),
           at(kRotaryOffsets), nullptr,        at(kTokenTypes),  at(kLengths)};
}

void StepBuffers::setRotary(const std::vector<RotarySpec>& tables) {
  std::vector<float> fixed;
  const auto add = [&](size_t index) {
    tableStarts_[index] = fixed.size();
    fixed.insert(fixed.end(), tables[index].inverseFrequencies.begin(), tables[index].inverseFrequencies.end());
  };
  tableStarts_.resize(tables.size());
  for (size_t i = 0; i < tables.size(); ++i) {
    if (tables[i].dynamicOriginalPositions == 0 && !tables[i].longer) {
      add(i);
    } else {
      if (isDynamic())
        throw Error("ERR_UNSUPPORTED_MODEL",
                    "The CUDA backend takes one rotary table whose frequencies depend on the length, found several.");
      if (tables[i].longer && tables[i].longer->amplitude != tables[i].amplitude)
        throw Error("ERR_UNSUPPORTED_MODEL",
                    "The CUDA backend does not compute another amplitude of rotary positions for long sequences.");
      dynamic_ = tables[i];
      dynamicTable_ = static_cast<int64_t>(i);
    }
  }
  size_t count = std::max<size_t>(1, fixed.size());
  if (isDynamic()) {
    add(static_cast<size_t>(dynamicTable_));
    const size_t half = dynamic_.inverseFrequencies.size();
    count = fixed.size() + static_cast<size_t>(rows_) * half;
    const size_t bytes = static_cast<size_t>(1 + rows_) * half * sizeof(float);
    for (HostBuffer& buffer : host_) buffer.frequencies = PinnedMemory(bytes, "rotary frequencies");
    const size_t zeros = static_cast<size_t>(rows_) * sizeof(int32_t);
    noOffsets_ = DeviceMemory(zeros, "rotary frequencies");
    check(cudaMemset(noOffsets_.as(), 0, zeros), "loading rotary frequencies");
  }
  frequencies_ = DeviceMemory(count * sizeof(float), "rotary frequencies");
  check(cudaMemcpy(frequencies_.as(), fixed.data(), fixed.size() * sizeof(float), cudaMemcpyHostToDevice),
        "loading rotary frequencies");
  check(cudaStreamSynchronize(nullptr), "loading rotary frequencies");
}

StepView StepBuffers::view(const RotaryPositions& rotary) const {
  StepView view = view_;
  view.inverseFrequencies = frequencies_.as<float>() + tableStarts_[static_cast<size_t>(rotary.table)];
  if (isDynamic() && rotary.table != dynamicTable_) view.rotaryOffsets = noOffsets_.as<int32_t>();
  return view;
}

// Every sequence past the original length has frequencies of its own, behind the fixed ones.
int32_t StepBuffers::rotaryOffsetOf(const SequenceSlice& slice) {
  const int64_t original = dynamic_.longer ? dynamic_.longer->originalPositions : dynamic_.dynamicOriginalPositions;
  if (original == 0 || slice.totalLength <= original) return 0;
  const std::vector<float> frequencies =
      dynamic_.longer ? dynamic_.longer->inverseFrequencies : dynamicInverseFrequencies(dynamic_, slice.totalLength);
  const auto offset = static_cast<int32_t>(packedFrequencies_.size());
  packedFrequencies_.insert(packedFrequencies_.end(), frequencies.begin(), frequencies.end());
  return offset;
}

void StepBuffers::packSlice(const Step& step, const SequenceSlice& slice, int32_t* packed) {
  const int64_t pages = (slice.contextLength + slice.rowCount + kPageTokens - 1) / kPageTokens;
  if (usedPages_ + pages > pages_) throw Error("ERR_NATIVE", "the page tables of a step are longer than the KV cache");
  std::copy_n(slice.pages, pages, packed + kPages * rows_ + usedPages_);
  const int32_t rotaryOffset = rotaryOffsetOf(slice);
  const int64_t firstRow = generatedCount_ + promptCount_;
  for (int64_t i = 0; i < slice.rowCount; ++i) {
    const int64_t row = firstRow + i;
    deviceRows_[static_cast<size_t>(slice.firstRow + i)] = static_cast<int32_t>(row);
    packed[kTokenIds * rows_ + row] = step.tokenIds[slice.firstRow + i];
    packed[kPositions * rows_ + row] = static_cast<int32_t>(slice.contextLength + i);
    packed[kPageOffsets * rows_ + row] = static_cast<int32_t>(usedPages_);
    packed[kRotaryOffsets * rows_ + row] = rotaryOffset;
    packed[kLengths * rows_ + row] = static_cast<int32_t>(slice.contextLength + slice.rowCount);
    if (step.tokenTypes) packed[kTokenTypes * rows_ + row] = step.tokenTypes[slice.firstRow + i];
    if (slice.generated)
      packed[kGeneratedRows * rows_ + generatedCount_++] = static_cast<int32_t>(row);
    else
      packed[kPromptRows * rows_ + promptCount_++] = static_cast<int32_t>(row);
  }
  usedPages_ += pages;
  if (slice.generated) {
    longestGenerated_ = std::max(longestGenerated_, slice.contextLength + 1);
    return;
  }
  for (int64_t first = 0; first < slice.rowCount; first += kPrefillTileRows) {
    const int64_t count = std::min<int64_t>(kPrefillTileRows, slice.rowCount - first);
    longTiles_.push_back(
        {{static_cast<int32_t>(firstRow + first), static_cast<int32_t>(count)}, slice.contextLength + first + count});
  }
}

// The longest first: they are what the last multiprocessor would be waited for.
void StepBuffers::packTiles(int32_t* packed) {
  std::stable_sort(longTiles_.begin(), longTiles_.end(),
                   [](const LongTile& a, const LongTile& b) { return a.lastPosition > b.lastPosition; });
  auto* tiles = packed + kTiles * rows_;
  for (const LongTile& tile : longTiles_) {
    *tiles++ = tile.tile.firstRow;
    *tiles++ = tile.tile.rowCount;
  }
  tileCount_ = static_cast<int64_t>(longTiles_.size());
}

void StepBuffers::upload(const Step& step, int64_t paddedRows, int64_t paddedWanted, const Stream& stream) {
  if (paddedRows > rows_ || paddedWanted > rows_) throw Error("ERR_NATIVE", "a step has more rows than were planned");
  HostBuffer& buffer = host_[turn_];
  turn_ = 1 - turn_;
  buffer.sent.wait("a step");
  auto* packed = buffer.packed.as<int32_t>();
  std::fill_n(packed, kTiles * rows_, -1);
  deviceRows_.resize(static_cast<size_t>(step.rows));
  usedPages_ = generatedCount_ = longestGenerated_ = promptCount_ = 0;
  longTiles_.clear();
  packedFrequencies_.assign(dynamic_.inverseFrequencies.begin(), dynamic_.inverseFrequencies.end());
  for (const bool generated : {true, false})
    for (const SequenceSlice& slice : step.sequences)
      if (slice.generated == generated) packSlice(step, slice, packed);
  for (size_t i = 0; i < step.wantedRows.size(); ++i)
    packed[kWantedRows * rows_ + static_cast<int64_t>(i)] = deviceRows_[static_cast<size_t>(step.wantedRows[i])];
  packTiles(packed);
  if (paddedRows > step.rows) generatedCount_ = paddedRows;  // only steps of generated rows are padded
  const auto bytes = static_cast<size_t>(kPages * rows_ + usedPages_) * sizeof(int32_t);
  check(cudaMemcpyAsync(device_.as(), packed, bytes, cudaMemcpyHostToDevice, stream.get()), "describing a step");
  if (packedFrequencies_.size() > dynamic_.inverseFrequencies.size()) {
    const size_t frequencyBytes = packedFrequencies_.size() * sizeof(float);
    std::memcpy(buffer.frequencies.as(), packedFrequencies_.data(), frequencyBytes);
    float* target = frequencies_.as<float>() + tableStarts_[static_cast<size_t>(dynamicTable_)];
    check(cudaMemcpyAsync(target, buffer.frequencies.as(), frequencyBytes, cudaMemcpyHostToDevice, stream.get()),
          "describing a step");
  }
  buffer.sent.record(stream);
}

}  // namespace shardspeed::cuda
