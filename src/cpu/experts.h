#pragma once

#include <cstdint>
#include <vector>

#include "backend.h"
#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "cpu/memory.h"
#include "cpu/tensors.h"

namespace shardspeed {

// A step's rows sorted by their experts: slot s is one row's place at one expert, slots starts[e] ... starts[e + 1] - 1
// are those of expert e, by ascending rows. With all that the experts of a layer compute, in one piece of memory whose
// size is known ahead.
class CpuExpertRows final : public ExpertRows {
 public:
  CpuExpertRows(int64_t capacity, const ExpertShape& shape, int threads);
  static size_t bytesOf(int64_t capacity, const ExpertShape& shape, int threads);

  // Sorts the rows by `chosen`.
  void sort(int64_t rows);

  // What the product that is next reads, `cols` of each row, expert by expert: packed, or row by row.
  float* gathered(int64_t slot, int64_t cols) const { return gathered_ + slot * cols; }
  float* inner(int64_t slot) const { return inner_ + slot * innerStride; }
  int64_t firstOf(int64_t expert) const { return starts[static_cast<size_t>(expert)]; }
  int64_t countOf(int64_t expert) const { return starts[static_cast<size_t>(expert) + 1] - firstOf(expert); }
  // A worker's own, for all rows of a step.
  float* scratch(int worker) const { return scratch_ + worker * scratchFloats_; }

  const ExpertShape shape;
  const int64_t innerStride;    // of what experts compute first
  std::vector<int32_t> active;  // experts that have rows, ascending
  std::vector<int64_t> starts;  // (experts + 1)
  int64_t slots = 0;
  int32_t* chosen;  // (rows, perToken)
  int32_t* rowOf;   // (slots)
  float* weights;   // (rows, perToken)
  float* weightOf;  // (slots)
  float* logits;    // (rows, router's rows padded to whole panels)

 private:
  Memory memory_;
  float* gathered_;
  float* inner_;
  float* scratch_;
  int64_t scratchFloats_;
  std::vector<int64_t> next_;  // (experts): the slot of an expert's next row
};

// Mixtures of experts: rows that are routed to one expert are gathered and computed together. Sums have one order for
// each row, whatever other rows there are: products by columns, and over experts by their indices.
class CpuExperts {
 public:
  CpuExperts(ThreadPool& pool, const KernelTable& kernels) : pool_(pool), kernels_(kernels) {}

  // x (rows, stride): normed.
  void read(const ExpertsCall& call, int64_t rows, const float* x, int64_t stride, CpuExpertRows& state,
            CpuActivations* shared);
  void add(const ExpertsCall& call, int64_t rows, CpuExpertRows& state, bool residual, CpuActivations& out);

 private:
  void route(const ExpertsCall& call, int64_t rows, const float* x, int64_t stride, CpuExpertRows& state);
  bool packs(int64_t rows) const;
  // Gathers rows.cols columns of the rows of all slots: those that rows.rowOf names, or in the order of the slots.
  void pack(CpuExpertRows& state, const RowPack& rows);
  void gather(const ExpertsCall& call, const float* x, int64_t stride, CpuExpertRows& state);
  void projectUp(const ExpertsCall& call, CpuExpertRows& state);
  void projectGroup(const ExpertsCall& call, int64_t expert, int64_t group, CpuExpertRows& state, float* chains) const;

  ThreadPool& pool_;
  const KernelTable& kernels_;
};

}  // namespace shardspeed
