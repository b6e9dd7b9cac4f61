#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "check.h"
#include "cuda/attention.h"
#include "cuda/decode_plan.h"
#include "device.h"
#include "random.h"
#include "reference_math.h"

// Sequences of random tokens in a paged cache, steps over them, and what their attention should be, in fp64.

namespace shardspeed::test {

struct AttentionOptions {
  DType dtype = DType::kF16;
  AttentionShape shape{4, 2, 64};
  float scale = 0;  // 0: 1 / sqrt(headDim)
  int32_t window = 0;
  int32_t rotaryHalf = 0;
  RotaryLayout rotaryLayout = RotaryLayout::kHalf;
  float rotaryAmplitude = 1;
};

// `count` tokens of a sequence from position `first` on; sequence -1: rows that only fill the step.
struct Slice {
  int64_t sequence;
  int64_t first;
  int64_t count;
};

class AttentionRig {
 public:
  AttentionRig(const AttentionOptions& options, const std::vector<int64_t>& lengths, uint64_t seed = 1)
      : options_(options), random_(seed), cache_(0), frequencies_(0) {
    if (options_.scale == 0) options_.scale = 1 / std::sqrt(static_cast<float>(options_.shape.headDim));
    int64_t pages = 0;
    for (const int64_t length : lengths) pages += pagesOf(length);
    std::vector<int32_t> free(static_cast<size_t>(2 * pages + 3));  // more than half stay NaN
    std::iota(free.begin(), free.end(), 0);
    for (size_t i = free.size(); i > 1; --i) std::swap(free[i - 1], free[static_cast<size_t>(random_.below(i))]);
    cache_.assign(free.size() * static_cast<size_t>(pageElements()), 0xffff);
    for (int table = 0; table < 2; ++table) {
      for (int32_t j = 0; j < options_.rotaryHalf; ++j)
        frequencies_.push_back(
            std::pow(table == 0 ? 10000.0f : 500.0f, -static_cast<float>(j) / static_cast<float>(options_.rotaryHalf)));
      frequencies_.push_back(options_.rotaryAmplitude);
    }
    for (const int64_t length : lengths) {
      Sequence sequence{length, {}, {}, {}};
      for (int64_t page = 0; page < pagesOf(length); ++page) {
        sequence.pages.push_back(free.back());
        free.pop_back();
      }
      for (int64_t i = 0; i < length * width(); ++i) sequence.qkv.push_back(rounded(random_.normal()));
      sequence.turned = sequence.qkv;
      for (int64_t i = 0; i < length; ++i)
        turn(sequence.turned.data() + i * width(), i, static_cast<int64_t>(sequences_.size()));
      sequences_.push_back(std::move(sequence));
    }
  }

  const AttentionOptions& options() const { return options_; }
  int64_t width() const { return (options_.shape.heads + 2 * options_.shape.kvHeads) * options_.shape.headDim; }
  int64_t outWidth() const { return options_.shape.heads * options_.shape.headDim; }
  int64_t qkvStride() const { return (width() + 63) / 64 * 64; }
  int64_t outStride() const { return (outWidth() + 63) / 64 * 64; }
  int64_t paddedDim() const { return cuda::attentionPadding(options_.shape.headDim); }
  int64_t pageElements() const { return options_.shape.kvHeads * 2 * kPageTokens * paddedDim(); }
  int64_t lengthOf(int64_t sequence) const { return at(sequence).length; }
  double tolerance() const { return options_.dtype == DType::kF16 ? 1e-3 : 1e-2; }

  // The cache as bits, on the host: what has not been stored is NaN.
  std::vector<uint16_t>& cache() { return cache_; }
  // Stores the first tokens of a sequence as the kernels should.
  void store(int64_t sequence, int64_t count) { storeRange(cache_, sequence, 0, count); }
  void storeRange(std::vector<uint16_t>& cache, int64_t sequence, int64_t first, int64_t count) const {
    const auto& [heads, kvHeads, dim] = options_.shape;
    for (int64_t position = first; position < first + count; ++position)
      for (int64_t head = 0; head < kvHeads; ++head)
        for (int64_t half = 0; half < 2; ++half) {
          const float* from = at(sequence).turned.data() + position * width() + (heads + half * kvHeads + head) * dim;
          uint16_t* to = cache.data() + slot(sequence, position, head, half);
          for (int64_t j = 0; j < paddedDim(); ++j) to[j] = j < dim ? toElement(options_.dtype, from[j]) : 0;
        }
  }
  int64_t slot(int64_t sequence, int64_t position, int64_t head, int64_t half) const {
    const int64_t page = at(sequence).pages[static_cast<size_t>(position / kPageTokens)];
    return page * pageElements() + ((head * 2 + half) * kPageTokens + position % kPageTokens) * paddedDim();
  }
  const float* raw(int64_t sequence, int64_t position) const { return at(sequence).qkv.data() + position * width(); }
  const float* turned(int64_t sequence, int64_t position) const {
    return at(sequence).turned.data() + position * width();
  }
  const std::vector<int32_t>& pages(int64_t sequence) const { return at(sequence).pages; }
  const std::vector<float>& frequencies() const { return frequencies_; }

  // (heads * headDim)
  std::vector<double> expected(int64_t sequence, int64_t position) const {
    const auto& [heads, kvHeads, dim] = options_.shape;
    std::vector<double> out(static_cast<size_t>(heads * dim));
    const int64_t first = options_.window > 0 ? std::max<int64_t>(0, position - options_.window + 1) : 0;
    const auto widened = [](const float* from, int64_t count) { return std::vector<double>(from, from + count); };
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t kvHead = head / (heads / kvHeads);
      std::vector<std::vector<double>> keys, values;
      std::vector<const double*> keysAt, valuesAt;
      for (int64_t key = first; key <= position; ++key) {
        keys.push_back(widened(turned(sequence, key) + (heads + kvHead) * dim, dim));
        values.push_back(widened(turned(sequence, key) + (heads + kvHeads + kvHead) * dim, dim));
        keysAt.push_back(keys.back().data());
        valuesAt.push_back(values.back().data());
      }
      const std::vector<double> query = widened(turned(sequence, position) + head * dim, dim);
      const std::vector<double> result =
          attentionOf(query.data(), keysAt, valuesAt, static_cast<size_t>(dim), static_cast<double>(options_.scale));
      std::copy(result.begin(), result.end(), out.begin() + head * dim);
    }
    return out;
  }

 private:
  struct Sequence {
    int64_t length;
    std::vector<int32_t> pages;
    std::vector<float> qkv;     // (length, width)
    std::vector<float> turned;  // (length, width)
  };
  static int64_t pagesOf(int64_t length) { return (length + kPageTokens - 1) / kPageTokens; }
  const Sequence& at(int64_t sequence) const { return sequences_[static_cast<size_t>(sequence)]; }
  float rounded(float value) const { return fromElement(options_.dtype, toElement(options_.dtype, value)); }

  void turn(float* row, int64_t position, int64_t sequence) const {
    const int64_t half = options_.rotaryHalf;
    const int64_t dim = options_.shape.headDim;
    RotarySpec rotary;
    const float* frequencies = frequencies_.data() + sequence % 2 * (half + 1);
    rotary.inverseFrequencies.assign(frequencies, frequencies + half);
    rotary.amplitude = options_.rotaryAmplitude;
    for (int64_t head = 0; head < options_.shape.heads + options_.shape.kvHeads; ++head) {
      std::vector<double> values(row + head * dim, row + (head + 1) * dim);
      rotate(rotary, position, 0, values.data(), options_.rotaryLayout);
      for (int64_t j = 0; j < dim; ++j)
        row[head * dim + j] = rounded(static_cast<float>(values[static_cast<size_t>(j)]));
    }
  }

  AttentionOptions options_;
  Random random_;
  std::vector<uint16_t> cache_;
  std::vector<float> frequencies_;
  std::vector<Sequence> sequences_;
};

// A step over slices of the rig's sequences, in device memory of its own.
class AttentionStep {
 public:
  AttentionStep(const AttentionRig& rig, const std::vector<Slice>& slices, const std::vector<uint16_t>& cache)
      : rig_(rig),
        slices_(slices),
        rows_(countRows(slices)),
        qkv_(static_cast<size_t>(rows_ * rig.qkvStride())),
        out_(static_cast<size_t>(rows_ * rig.outStride())),
        cache_(cache),
        frequencies_(rig.frequencies()),
        positions_(static_cast<size_t>(rows_)),
        pageOffsets_(static_cast<size_t>(rows_)),
        rotaryOffsets_(static_cast<size_t>(rows_)),
        lengths_(static_cast<size_t>(rows_)),
        pages_(tables(rig, slices)) {
    std::vector<uint16_t> qkv(qkv_.size(), 0xffff);
    std::vector<int32_t> positions, pageOffsets, rotaryOffsets, lengths;
    int32_t pageOffset = 0;
    for (const auto& [sequence, first, count] : slices) {
      for (int64_t i = 0; i < count; ++i) {
        const bool blank = sequence < 0;
        if (!blank)
          for (int64_t j = 0; j < rig.width(); ++j)
            qkv[positions.size() * static_cast<size_t>(rig.qkvStride()) + static_cast<size_t>(j)] =
                toElement(rig.options().dtype, rig.raw(sequence, first + i)[j]);
        positions.push_back(blank ? -1 : static_cast<int32_t>(first + i));
        pageOffsets.push_back(blank ? -1 : pageOffset);
        rotaryOffsets.push_back(blank ? -1 : static_cast<int32_t>(sequence % 2) * (rig.options().rotaryHalf + 1));
        lengths.push_back(static_cast<int32_t>(first + count));
      }
      if (sequence >= 0) pageOffset += static_cast<int32_t>(rig.pages(sequence).size());
    }
    qkv_.write(qkv);
    positions_.write(positions);
    pageOffsets_.write(pageOffsets);
    rotaryOffsets_.write(rotaryOffsets);
    lengths_.write(lengths);
  }

  int64_t rows() const { return rows_; }
  cuda::StepView view() const {
    return {nullptr, positions_.data(), pageOffsets_.data(), pages_.data(), rotaryOffsets_.data(), frequencies_.data(),
            nullptr, lengths_.data()};
  }
  cuda::AttentionParams params() const {
    const AttentionOptions& options = rig_.options();
    cuda::AttentionParams params;
    params.dtype = options.dtype;
    params.shape = options.shape;
    params.scale = options.scale;
    params.window = options.window;
    params.rotaryHalf = options.rotaryHalf;
    params.rotaryLayout = options.rotaryLayout;
    params.qkv = qkv_.data();
    params.qkvStride = rig_.qkvStride();
    params.out = out_.data();
    params.outStride = rig_.outStride();
    params.cache = cache_.data();
    return params;
  }

  // rows: those that take part; < 0 and rows that only fill the step have an item too. extraItems: more than are
  // needed.
  void decode(const std::vector<int32_t>& rows, const DeviceArray<unsigned char>& workspace, int64_t extraItems = 0) {
    cuda::DecodePlan plan = planOf(rows);
    std::vector<cuda::DecodeItem> items = plan.items();
    for (const int32_t row : rows)
      if (lengthOf(row) == 0) items.insert(items.begin(), {row, 0, 0});
    for (int64_t i = 0; i < extraItems; ++i) items.push_back({-1, -1, -1});
    REQUIRE(plan.parts().size() <= 1);
    const DeviceArray<cuda::DecodeItem> list(items);
    cuda::attendDecode(params(), view(), list.data(), static_cast<int64_t>(items.size()), workspace.data(), nullptr);
    cuda::check(cudaDeviceSynchronize(), "attendDecode");
  }
  void decode() { decode(allRows(), Workspace(rig_.options().shape)); }
  // The same, and fetches what a next product would read.
  void decodeAndFetch(const void* next, size_t bytes) {
    const Workspace workspace(rig_.options().shape);
    const DeviceArray<cuda::DecodeItem> list(planOf(allRows()).items());
    cuda::AttentionParams fetching = params();
    fetching.next = next;
    fetching.nextBytes = bytes;
    cuda::attendDecode(fetching, view(), list.data(), static_cast<int64_t>(list.size()), workspace.data(), nullptr);
    cuda::check(cudaDeviceSynchronize(), "attendDecode");
  }
  // Each row by a kernel of its own that sees what the one before stored; nothing waits between them.
  void decodeInTurn() {
    const Workspace workspace(rig_.options().shape);
    std::vector<cuda::DecodeItem> items;
    std::vector<int64_t> counts;
    for (const int32_t row : allRows()) {
      const cuda::DecodePlan plan = planOf({row});
      items.insert(items.end(), plan.items().begin(), plan.items().end());
      counts.push_back(static_cast<int64_t>(plan.items().size()));
    }
    const DeviceArray<cuda::DecodeItem> list(items);
    const cuda::DecodeItem* next = list.data();
    for (size_t i = 0; i < counts.size(); ++i) {
      cuda::attendDecode(params(), view(), next, counts[i], workspace.data(), nullptr, i > 0);
      next += counts[i];
    }
    cuda::check(cudaDeviceSynchronize(), "attendDecode");
  }
  struct Workspace : DeviceArray<unsigned char> {
    explicit Workspace(const AttentionShape& shape) : DeviceArray(cuda::decodeWorkspaceBytes(shape, kSlots)) { zero(); }
  };
  void append(const std::vector<int32_t>& rows) {
    const DeviceArray<int32_t> list(rows);
    cuda::appendRows(params(), view(), list.data(), static_cast<int64_t>(rows.size()), nullptr);
    cuda::check(cudaDeviceSynchronize(), "appendRows");
  }
  // Generated rows and prompts in one step, as an engine runs it: nothing waits between the kernels.
  void runMixed(const std::vector<int32_t>& generated, const std::vector<int32_t>& prompts,
                const std::vector<cuda::RowTile>& tiles) {
    const Workspace workspace(rig_.options().shape);
    const cuda::DecodePlan plan = planOf(generated);
    const DeviceArray<cuda::DecodeItem> items(plan.items());
    const DeviceArray<int32_t> promptList(prompts);
    const DeviceArray<cuda::RowTile> tileList(tiles);
    cuda::attendDecode(params(), view(), items.data(), static_cast<int64_t>(items.size()), workspace.data(), nullptr);
    cuda::appendRows(params(), view(), promptList.data(), static_cast<int64_t>(prompts.size()), nullptr);
    cuda::attendPrefill(params(), view(), tileList.data(), static_cast<int64_t>(tiles.size()), nullptr);
    cuda::check(cudaDeviceSynchronize(), "a mixed step");
  }
  void prefill(int64_t tileRows = cuda::kPrefillTileRows) {
    std::vector<cuda::RowTile> tiles;
    int64_t row = 0;
    for (const Slice& slice : slices_) {
      for (int64_t i = 0; i < slice.count && slice.sequence >= 0; i += tileRows)
        tiles.push_back({static_cast<int32_t>(row + i), static_cast<int32_t>(std::min(tileRows, slice.count - i))});
      row += slice.count;
    }
    std::reverse(tiles.begin(), tiles.end());
    const DeviceArray<cuda::RowTile> list(tiles);
    cuda::attendPrefill(params(), view(), list.data(), static_cast<int64_t>(tiles.size()), nullptr);
    cuda::check(cudaDeviceSynchronize(), "attendPrefill");
  }

  std::vector<int32_t> allRows() const {
    std::vector<int32_t> rows(static_cast<size_t>(rows_));
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }
  std::vector<uint16_t> out() const { return out_.read(); }
  std::vector<uint16_t> qkv() const { return qkv_.read(); }
  std::vector<uint16_t> cache() const { return cache_.read(); }

 private:
  static constexpr int64_t kSlots = 320;

  // What a row sees, itself included, where there is no window; 0 = it is none.
  int64_t lengthOf(int32_t row) const {
    for (const Slice& slice : slices_) {
      if (row >= 0 && row < slice.count) return slice.sequence < 0 ? 0 : slice.first + row + 1;
      row -= static_cast<int32_t>(slice.count);
    }
    return 0;
  }
  cuda::DecodePlan planOf(const std::vector<int32_t>& rows) const {
    cuda::DecodePlan plan;
    plan.setShape(rig_.options().shape, kSlots);
    std::vector<cuda::DecodePlan::Row> planned;
    for (const int32_t row : rows)
      if (lengthOf(row) > 0) planned.push_back({row, lengthOf(row)});
    plan.add(planned);
    return plan;
  }
  static int64_t countRows(const std::vector<Slice>& slices) {
    int64_t rows = 0;
    for (const Slice& slice : slices) rows += slice.count;
    return rows;
  }
  static std::vector<int32_t> tables(const AttentionRig& rig, const std::vector<Slice>& slices) {
    std::vector<int32_t> all;
    for (const Slice& slice : slices)
      if (slice.sequence >= 0)
        all.insert(all.end(), rig.pages(slice.sequence).begin(), rig.pages(slice.sequence).end());
    return all;
  }

  const AttentionRig& rig_;
  std::vector<Slice> slices_;
  int64_t rows_;
  DeviceArray<uint16_t> qkv_;
  DeviceArray<uint16_t> out_;
  DeviceArray<uint16_t> cache_;
  DeviceArray<float> frequencies_;
  DeviceArray<int32_t> positions_;
  DeviceArray<int32_t> pageOffsets_;
  DeviceArray<int32_t> rotaryOffsets_;
  DeviceArray<int32_t> lengths_;
  DeviceArray<int32_t> pages_;
};

// The last token of every sequence; all others are in the cache.
inline std::vector<Slice> lastTokens(AttentionRig& rig, int64_t sequences) {
  std::vector<Slice> slices;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    rig.store(sequence, rig.lengthOf(sequence) - 1);
    slices.push_back({sequence, rig.lengthOf(sequence) - 1, 1});
  }
  return slices;
}

// Each row against fp64, its norm and its elements; what is beyond the width, and blank rows, must still be NaN.
inline void checkOut(const AttentionRig& rig, const std::vector<Slice>& slices, const std::vector<uint16_t>& out) {
  const uint16_t* found = out.data();
  for (const auto& [sequence, first, count] : slices) {
    for (int64_t i = 0; i < count; ++i, found += rig.outStride()) {
      const Note note("sequence", sequence, "position", first + i);
      int64_t written = 0;
      if (sequence >= 0) {
        const std::vector<double> expected = rig.expected(sequence, first + i);
        written = rig.outWidth();
        double error = 0, norm = 0;
        for (int64_t j = 0; j < written; ++j) {
          const double wanted = expected[static_cast<size_t>(j)];
          const double distance = fromElement(rig.options().dtype, found[j]) - wanted;
          error += distance * distance;
          norm += wanted * wanted;
        }
        CHECK_NEAR(std::sqrt(error / norm), 0.0, rig.tolerance());
        const double typical = std::sqrt(norm / static_cast<double>(written));
        for (int64_t j = 0; j < written; ++j)
          CHECK_NEAR(fromElement(rig.options().dtype, found[j]), expected[static_cast<size_t>(j)],
                     10 * rig.tolerance() * typical);
      }
      const std::vector<uint16_t> untouched(static_cast<size_t>(rig.outStride() - written), 0xffff);
      CHECK_BITS(found + written, untouched.data(), rig.outStride() - written);
    }
  }
}

// The cache after the slices were appended: their slots near what they should be, padding zero, the rest unchanged.
inline void checkCache(const AttentionRig& rig, const std::vector<Slice>& slices, const std::vector<uint16_t>& before,
                       const std::vector<uint16_t>& after) {
  std::vector<uint16_t> expected = before;
  for (const auto& [sequence, first, count] : slices)
    if (sequence >= 0) rig.storeRange(expected, sequence, first, count);
  // Sines differ in the last bit between libraries, so k may too.
  std::vector<uint16_t> close = expected;
  for (size_t i = 0; i < close.size(); ++i) {
    const double wanted = fromElement(rig.options().dtype, expected[i]);
    if (expected[i] != before[i] && expected[i] != 0 &&
        std::abs(fromElement(rig.options().dtype, after[i]) - wanted) <=
            2 * rig.tolerance() * (std::abs(wanted) + 0.01))
      close[i] = after[i];
  }
  CHECK_BITS(after.data(), close.data(), static_cast<int64_t>(after.size()));
}

}  // namespace shardspeed::test
