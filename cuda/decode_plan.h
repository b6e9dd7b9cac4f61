#pragma once

#include <vector>

#include "cuda/attention.h"

namespace shardspeed::cuda {

// Cuts the attention of a step's generated rows into the items that attendDecode computes: as many as the rows need, so
// that a long sequence costs its company no blocks. The longest rows come first, since they are what the last
// multiprocessor would be waited for. Items that have to be computed one launch behind another are in several parts:
// those of rows that see each other, and those that the workspace has no room for.
class DecodePlan {
 public:
  struct Row {
    int32_t row;
    int64_t length;  // tokens that it sees, where there is no window, itself included
  };

  // slots: of the workspace, decodeSlots() for the shape.
  void setShape(const AttentionShape& shape, int64_t slots);
  void clear();
  // Rows none of which sees another one of them; they may see those that were added before.
  void add(std::vector<Row>& rows);

  const std::vector<DecodeItem>& items() const { return items_; }
  // Items of each part.
  const std::vector<int64_t>& parts() const { return parts_; }

  // Items of steps of so many rows, whose page tables have so many entries together, at most.
  static int64_t mostItems(int64_t rows, int64_t tableEntries);

 private:
  AttentionShape shape_{1, 1, 1};
  int64_t slots_ = 0;  // 0: nothing is cut
  int64_t usedSlots_ = 0;
  std::vector<DecodeItem> items_;
  std::vector<int64_t> parts_;
};

}  // namespace shardspeed::cuda
