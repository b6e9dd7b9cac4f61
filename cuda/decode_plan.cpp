#include "cuda/decode_plan.h"

#include <algorithm>

namespace shardspeed::cuda {

void DecodePlan::setShape(const AttentionShape& shape, int64_t slots) {
  shape_ = shape;
  slots_ = slots;
}

void DecodePlan::clear() {
  items_.clear();
  parts_.clear();
}

void DecodePlan::add(std::vector<Row>& rows) {
  if (rows.empty()) return;
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.length > b.length; });
  parts_.push_back(0);
  usedSlots_ = 0;
  for (const Row& row : rows) {
    const int64_t splits = slots_ > 0 ? decodeSplits(shape_, row.length) : 1;
    const int64_t slots = splits > 1 ? splits : 0;
    if (usedSlots_ + slots > slots_) {
      parts_.push_back(0);
      usedSlots_ = 0;
    }
    const auto first = static_cast<int32_t>(usedSlots_);
    for (int32_t split = 0; split < splits; ++split) items_.push_back({row.row, split, first});
    parts_.back() += splits;
    usedSlots_ += slots;
  }
}

// A row takes an item, and one more for every kLeastSplitPages of its pages. The table of a sequence counts once for
// its next row and those of its draft.
int64_t DecodePlan::mostItems(int64_t rows, int64_t tableEntries) {
  constexpr int64_t kRowsOfTable = 1 + 64;
  return rows + std::min(rows * (kMostDecodeSplits - 1), tableEntries * kRowsOfTable / kLeastSplitPages);
}

}  // namespace shardspeed::cuda
