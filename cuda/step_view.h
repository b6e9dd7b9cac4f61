#pragma once

#include <cstdint>

namespace shardspeed::cuda {

// What kernels know about a step, row (token) by row. The arrays lie at fixed places in device memory, written by one
// copy ahead of the step, so that a captured graph serves every later step of its size.
struct StepView {
  const int32_t* tokenIds;       // (rows)
  const int32_t* positions;      // (rows) in its sequence; -1 = the row only fills the step up to the size of a graph
  const int32_t* pageOffsets;    // (rows) where the page table of the row's sequence starts in `pages`
  const int32_t* pages;          // page tables, one after another; entry p holds positions p * kPageTokens ...
  const int32_t* rotaryOffsets;  // (rows) where the row's inverse frequencies start in `inverseFrequencies`
  const float* inverseFrequencies;  // with an amplitude, which multiplies cosines and sines, behind those of a table
  const int32_t* tokenTypes;        // (rows), of models that have token types
  const int32_t* lengths;           // (rows) tokens of the row's sequence, those of this step included
};

// Consecutive rows of one sequence, the unit of work of the prefill attention.
struct RowTile {
  int32_t firstRow;
  int32_t rowCount;  // <= kPrefillTileRows
};

}  // namespace shardspeed::cuda
