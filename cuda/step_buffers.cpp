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
  return static_cast<size_t>(kPages * paddedRows(maxRows) + kvPages * kTableEntriesPerPage) * sizeof(int32_t);
}

StepBuffers::StepBuffers(int64_t maxRows, int64_t kvPages)
    : rows_(paddedRows(maxRows)),
      pages_(kvPages * kTableEntriesPerPage),
      device_(bytesOf(maxRows, kvPages), "the description of a step") {
  for (HostBuffer& buffer : host_) buffer.packed = PinnedMemory(device_.bytes(), "the description of a step");
}

static void appendTable(const std::vector<float>& inverseFrequencies, float amplitude, std::vector<float>& to) {
  to.insert(to.end(), inverseFrequencies.begin(), inverseFrequencies.end());
  to.push_back(amplitude);
}

void StepBuffers::setRotary(const std::vector<RotarySpec>& tables) {
  std::vector<float> values;
  tables_.resize(tables.size());
  for (const bool dynamic : {false, true}) {
    if (dynamic) fixedCount_ = values.size();
    for (size_t i = 0; i < tables.size(); ++i) {
      if (dynamic != (tables[i].dynamicOriginalPositions != 0 || tables[i].longer)) continue;
      tables_[i] = {values.size(), dynamic};
      appendTable(tables[i].inverseFrequencies, tables[i].amplitude, values);
      if (dynamic) dynamic_.push_back(tables[i]);
    }
  }
  shortFrequencies_.assign(values.begin() + static_cast<std::ptrdiff_t>(fixedCount_), values.end());
  const size_t mostDynamic = shortFrequencies_.size() * static_cast<size_t>(1 + rows_) * sizeof(float);
  if (!dynamic_.empty()) {
    for (HostBuffer& buffer : host_) buffer.frequencies = PinnedMemory(mostDynamic, "rotary frequencies");
    const size_t zeros = static_cast<size_t>(rows_) * sizeof(int32_t);
    noOffsets_ = DeviceMemory(zeros, "rotary frequencies");
    check(cudaMemset(noOffsets_.as(), 0, zeros), "loading rotary frequencies");
  }
  frequencies_ = DeviceMemory(fixedCount_ * sizeof(float) + std::max(mostDynamic, sizeof(float)), "rotary frequencies");
  check(cudaMemcpy(frequencies_.as(), values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice),
        "loading rotary frequencies");
  check(cudaStreamSynchronize(nullptr), "loading rotary frequencies");
}

StepView StepBuffers::view(const RotaryPositions& rotary) const {
  const Table& table = tables_[static_cast<size_t>(rotary.table)];
  StepView view = view_;
  view.inverseFrequencies = frequencies_.as<float>() + table.start;
  if (!dynamic_.empty() && !table.dynamic) view.rotaryOffsets = noOffsets_.as<int32_t>();
  return view;
}

static bool isLong(const RotarySpec& table, int64_t totalLength) {
  return totalLength > (table.longer ? table.longer->originalPositions : table.dynamicOriginalPositions);
}

// Every sequence past some table's original length has frequencies of its own for all tables that depend on it.
int32_t StepBuffers::rotaryOffsetOf(const SequenceSlice& slice) {
  if (std::none_of(dynamic_.begin(), dynamic_.end(),
                   [&](const RotarySpec& table) { return isLong(table, slice.totalLength); }))
    return 0;
  const auto offset = static_cast<int32_t>(packedFrequencies_.size());
  for (const RotarySpec& table : dynamic_)
    if (!isLong(table, slice.totalLength))
      appendTable(table.inverseFrequencies, table.amplitude, packedFrequencies_);
    else if (table.longer)
      appendTable(table.longer->inverseFrequencies, table.longer->amplitude, packedFrequencies_);
    else
      appendTable(dynamicInverseFrequencies(table, slice.totalLength), table.amplitude, packedFrequencies_);
  return offset;
}

// Slices of one sequence share its table.
void StepBuffers::packPages(const Step& step, int32_t* packed) {
  usedPages_ = 0;
  pageOffsets_.clear();
  int64_t shared = 0;
  for (const SequenceSlice& slice : step.sequences) {
    const int64_t pages = (slice.contextLength + slice.rowCount + kPageTokens - 1) / kPageTokens;
    if (slice.follows == 0) shared = 0;
    pageOffsets_.push_back(static_cast<int32_t>(usedPages_ - shared));
    const int64_t more = std::max<int64_t>(0, pages - shared);
    if (usedPages_ + more > pages_) throw Error("ERR_NATIVE", "the page tables of a step are longer than was planned");
    std::copy_n(slice.pages + shared, more, packed + kPages * stride_ + usedPages_);
    usedPages_ += more;
    shared += more;
  }
}

// Kernels write what a row adds to the cache while they compute others, so rows that see it are in a later part.
void StepBuffers::packGenerated(const Step& step, int32_t* packed) {
  generatedParts_.clear();
  for (int64_t part = 0, before = -1; before < generatedCount_; ++part) {
    before = generatedCount_;
    for (size_t i = 0; i < step.sequences.size(); ++i)
      if (step.sequences[i].generated && step.sequences[i].follows == part) packSlice(step, i, packed);
    if (generatedCount_ > before) generatedParts_.push_back(generatedCount_ - before);
  }
}

void StepBuffers::packSlice(const Step& step, size_t index, int32_t* packed) {
  const SequenceSlice& slice = step.sequences[index];
  const int32_t rotaryOffset = rotaryOffsetOf(slice);
  const int64_t firstRow = generatedCount_ + promptCount_;
  for (int64_t i = 0; i < slice.rowCount; ++i) {
    const int64_t row = firstRow + i;
    deviceRows_[static_cast<size_t>(slice.firstRow + i)] = static_cast<int32_t>(row);
    packed[kTokenIds * stride_ + row] = step.tokenIds[slice.firstRow + i];
    packed[kPositions * stride_ + row] = static_cast<int32_t>(slice.contextLength + i);
    packed[kPageOffsets * stride_ + row] = pageOffsets_[index];
    packed[kRotaryOffsets * stride_ + row] = rotaryOffset;
    packed[kLengths * stride_ + row] = static_cast<int32_t>(slice.contextLength + slice.rowCount);
    if (step.tokenTypes) packed[kTokenTypes * stride_ + row] = step.tokenTypes[slice.firstRow + i];
    if (slice.generated)
      packed[kGeneratedRows * stride_ + generatedCount_++] = static_cast<int32_t>(row);
    else
      packed[kPromptRows * stride_ + promptCount_++] = static_cast<int32_t>(row);
  }
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
  auto* tiles = packed + kTiles * stride_;
  for (const LongTile& tile : longTiles_) {
    *tiles++ = tile.tile.firstRow;
    *tiles++ = tile.tile.rowCount;
  }
  tileCount_ = static_cast<int64_t>(longTiles_.size());
}

void StepBuffers::upload(const Step& step, int64_t paddedRows, int64_t paddedWanted, const Stream& stream) {
  if (paddedRows > rows_ || paddedWanted > rows_) throw Error("ERR_NATIVE", "a step has more rows than were planned");
  stride_ = std::max(paddedRows, paddedWanted);
  view_ = {at(kTokenIds),      at(kPositions), at(kPageOffsets), at(kPages),
           at(kRotaryOffsets), nullptr,        at(kTokenTypes),  at(kLengths)};
  HostBuffer& buffer = host_[turn_];
  turn_ = 1 - turn_;
  buffer.sent.wait("a step");
  auto* packed = buffer.packed.as<int32_t>();
  std::fill_n(packed, kTiles * stride_, -1);
  deviceRows_.resize(static_cast<size_t>(step.rows));
  generatedCount_ = longestGenerated_ = promptCount_ = 0;
  longTiles_.clear();
  packedFrequencies_ = shortFrequencies_;
  packPages(step, packed);
  packGenerated(step, packed);
  for (size_t i = 0; i < step.sequences.size(); ++i)
    if (!step.sequences[i].generated) packSlice(step, i, packed);
  for (size_t i = 0; i < step.wantedRows.size(); ++i)
    packed[kWantedRows * stride_ + static_cast<int64_t>(i)] = deviceRows_[static_cast<size_t>(step.wantedRows[i])];
  packTiles(packed);
  // Only steps of generated rows that do not follow each other are padded.
  if (paddedRows > step.rows) generatedParts_ = {generatedCount_ = paddedRows};
  const auto bytes = static_cast<size_t>(kPages * stride_ + usedPages_) * sizeof(int32_t);
  check(cudaMemcpyAsync(device_.as(), packed, bytes, cudaMemcpyHostToDevice, stream.get()), "describing a step");
  if (packedFrequencies_.size() > shortFrequencies_.size()) {
    const size_t frequencyBytes = packedFrequencies_.size() * sizeof(float);
    std::memcpy(buffer.frequencies.as(), packedFrequencies_.data(), frequencyBytes);
    float* target = frequencies_.as<float>() + fixedCount_;
    check(cudaMemcpyAsync(target, buffer.frequencies.as(), frequencyBytes, cudaMemcpyHostToDevice, stream.get()),
          "describing a step");
  }
  buffer.sent.record(stream);
}

}  // namespace shardspeed::cuda
