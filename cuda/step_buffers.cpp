#include "cuda/step_buffers.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

int64_t StepBuffers::paddedRows(int64_t rows) {
  if (rows > kMostGraphRows) return rows;
  for (const int64_t size : {1, 2, 4, 8, 16, 24, 32, 48, 64})
    if (rows <= size) return size;
  const int64_t unit = rows <= 256 ? 32 : 64;
  return (rows + unit - 1) / unit * unit;
}

static constexpr int64_t kItemIntegers = sizeof(DecodeItem) / sizeof(int32_t);

size_t StepBuffers::bytesOf(int64_t maxRows, int64_t kvPages) {
  const int64_t rows = paddedRows(maxRows), pages = kvPages * kTableEntriesPerPage;
  return static_cast<size_t>(kItems * rows + kItemIntegers * DecodePlan::mostItems(rows, pages) + pages) *
         sizeof(int32_t);
}

StepBuffers::StepBuffers(int64_t maxRows, int64_t kvPages)
    : rows_(paddedRows(maxRows)),
      pages_(kvPages * kTableEntriesPerPage),
      device_(bytesOf(maxRows, kvPages), "the description of a step"),
      mostItems_(DecodePlan::mostItems(rows_, pages_)) {
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

static int64_t pagesOf(const SequenceSlice& slice) {
  return (slice.contextLength + slice.rowCount + kPageTokens - 1) / kPageTokens;
}

// Slices of one sequence share its table.
void StepBuffers::placePages(const Step& step) {
  usedPages_ = 0;
  pageOffsets_.clear();
  int64_t shared = 0;
  for (const SequenceSlice& slice : step.sequences) {
    if (slice.follows == 0) shared = 0;
    pageOffsets_.push_back(static_cast<int32_t>(usedPages_ - shared));
    const int64_t more = std::max<int64_t>(0, pagesOf(slice) - shared);
    if (usedPages_ + more > pages_) throw Error("ERR_NATIVE", "the page tables of a step are longer than was planned");
    usedPages_ += more;
    shared += more;
  }
}

void StepBuffers::packPages(const Step& step, int32_t* packed) const {
  int32_t* tables = packed + kItems * stride_ + kItemIntegers * itemCount_;
  for (size_t i = 0; i < step.sequences.size(); ++i)
    std::copy_n(step.sequences[i].pages, pagesOf(step.sequences[i]), tables + pageOffsets_[i]);
}

// Kernels write what a row adds to the cache while they compute others, so rows that see it are in a later part.
void StepBuffers::packGenerated(const Step& step, int32_t* packed) {
  decodePlan_.clear();
  for (int64_t part = 0, before = -1; before < generatedCount_; ++part) {
    before = generatedCount_;
    decodeRows_.clear();
    for (size_t i = 0; i < step.sequences.size(); ++i)
      if (step.sequences[i].generated && step.sequences[i].follows == part) packSlice(step, i, packed);
    decodePlan_.add(decodeRows_);
  }
}

void StepBuffers::packPrompts(const Step& step, int32_t* packed) {
  for (size_t wanted = kPromptClassCount; wanted-- > 0;) {
    const int64_t before = promptCount_;
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      const SequenceSlice& slice = step.sequences[i];
      if (!slice.generated && slice.promptClass == static_cast<int64_t>(wanted)) packSlice(step, i, packed);
    }
    promptsByClass_[wanted] = promptCount_ - before;
  }
  if (generatedCount_ + promptCount_ != step.rows) throw Error("ERR_NATIVE", "a step has prompts of an unknown class");
}

void StepBuffers::packItems(const Sizes& sizes, int32_t* packed) {
  const std::vector<DecodeItem>& items = decodePlan_.items();
  decodeParts_ = decodePlan_.parts();
  itemCount_ = static_cast<int64_t>(items.size());
  if (itemCount_ > mostItems_) throw Error("ERR_NATIVE", "a step has more generated rows than were planned");
  if (sizes.fixed && decodeParts_.size() == 1) {
    const auto filled = static_cast<int64_t>(std::bit_ceil(items.size()));
    decodeParts_[0] = itemCount_ = std::min(filled, mostItems_);
  }
  int32_t* to = packed + kItems * stride_;
  if (!items.empty()) std::memcpy(to, items.data(), items.size() * sizeof(DecodeItem));
  std::fill(to + items.size() * kItemIntegers, to + itemCount_ * kItemIntegers, -1);
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
    decodeRows_.push_back({static_cast<int32_t>(firstRow), slice.contextLength + 1});
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

void StepBuffers::upload(const Step& step, const Sizes& sizes, const Stream& stream) {
  stride_ = std::max(sizes.rows, sizes.wanted);
  if (stride_ > rows_) throw Error("ERR_NATIVE", "a step has more rows than were planned");
  HostBuffer& buffer = host_[turn_];
  turn_ = 1 - turn_;
  buffer.sent.wait("a step");
  auto* packed = buffer.packed.as<int32_t>();
  std::fill_n(packed, kTiles * stride_, -1);
  deviceRows_.resize(static_cast<size_t>(step.rows));
  generatedCount_ = promptCount_ = 0;
  longTiles_.clear();
  packedFrequencies_ = shortFrequencies_;
  placePages(step);
  packGenerated(step, packed);
  packPrompts(step, packed);
  for (size_t i = 0; i < step.wantedRows.size(); ++i)
    packed[kWantedRows * stride_ + static_cast<int64_t>(i)] = deviceRows_[static_cast<size_t>(step.wantedRows[i])];
  packTiles(packed);
  packItems(sizes, packed);
  packPages(step, packed);
  const int64_t tables = kItems * stride_ + kItemIntegers * itemCount_;
  view_ = {at(kTokenIds),      at(kPositions), at(kPageOffsets), device_.as<int32_t>() + tables,
           at(kRotaryOffsets), nullptr,        at(kTokenTypes),  at(kLengths)};
  // Only steps of generated rows are padded.
  if (sizes.rows > step.rows) generatedCount_ = sizes.rows;
  const auto bytes = static_cast<size_t>(tables + usedPages_) * sizeof(int32_t);
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
