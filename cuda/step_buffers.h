#pragma once

#include <vector>

#include "backend.h"
#include "cuda/attention.h"
#include "cuda/decode_plan.h"
#include "cuda/memory.h"
#include "cuda/prompt_classes.h"
#include "cuda/step_view.h"

namespace shardspeed::cuda {

// Brings what kernels need to know about a step to the device: one copy out of pinned memory, of what the step uses,
// to places that depend on the numbers of rows it is filled up to alone, so that graphs can rely on them. Two host
// buffers take turns, so that a step can be written while the one before it is still computed. On the device the rows
// of generated tokens come first, then those of prompts, the last class first: other kernels may compute these.
class StepBuffers {
 public:
  // Sizes of captured steps: a step is filled up to the next one.
  static constexpr int64_t kMostGraphRows = 1024;
  static int64_t paddedRows(int64_t rows);

  StepBuffers(int64_t maxRows, int64_t kvPages);
  // Before the first upload of a model with rotary positions.
  void setRotary(const std::vector<RotarySpec>& tables);

  // Before the first upload of a model with generated rows.
  void setDecode(const AttentionShape& shape, int64_t slots) { decodePlan_.setShape(shape, slots); }

  // Rows from step.rows to paddedRows and wanted rows from step.wantedRows.size() to paddedWanted are marked as none;
  // where rows are added, so are items, up to a power of two.
  struct Sizes {
    int64_t rows, wanted;
    bool fixed;  // for a graph: items are filled up, too
  };
  void upload(const Step& step, const Sizes& sizes, const Stream& stream);

  // Of the last step uploaded, as all below.
  const StepView& view() const { return view_; }
  // Ahead of its kernels: where tokens are put that the host did not know.
  int32_t* tokenIds() const { return device_.as<int32_t>() + kTokenIds * stride_; }
  // With the frequencies of one of the rotary tables.
  StepView view(const RotaryPositions& rotary) const;
  const int32_t* generatedRows() const { return at(kGeneratedRows); }  // device, as all below
  int64_t generatedCount() const { return generatedCount_; }           // with those that are marked as none
  // What attendDecode computes of these, in parts, a launch each: a row may see rows of parts before, and none of its
  // own.
  const DecodeItem* decodeItems() const { return reinterpret_cast<const DecodeItem*>(at(kItems)); }
  const std::vector<int64_t>& decodeParts() const { return decodeParts_; }
  const int32_t* promptRows() const { return at(kPromptRows); }
  int64_t promptCount() const { return promptCount_; }
  const PromptRows& promptsByClass() const { return promptsByClass_; }
  const RowTile* tiles() const { return reinterpret_cast<const RowTile*>(at(kTiles)); }
  int64_t tileCount() const { return tileCount_; }
  const int32_t* wantedRows() const { return at(kWantedRows); }

  static size_t bytesOf(int64_t maxRows, int64_t kvPages);

 private:
  // Parts of the packed buffer, each of stride_ integers; kTiles takes two. Behind them are the items, then the pages.
  enum Part {
    kTokenIds,
    kPositions,
    kPageOffsets,
    kRotaryOffsets,
    kTokenTypes,
    kLengths,
    kGeneratedRows,
    kPromptRows,
    kWantedRows,
    kTiles,
    kItems = kTiles + 2
  };
  const int32_t* at(Part part) const { return device_.as<int32_t>() + part * stride_; }
  void placePages(const Step& step);
  void packItems(const Sizes& sizes, int32_t* packed);
  void packPages(const Step& step, int32_t* packed) const;
  void packGenerated(const Step& step, int32_t* packed);
  void packPrompts(const Step& step, int32_t* packed);
  void packSlice(const Step& step, size_t index, int32_t* packed);
  void packTiles(int32_t* packed);
  int32_t rotaryOffsetOf(const SequenceSlice& slice);

  struct HostBuffer {
    PinnedMemory packed;
    PinnedMemory frequencies;
    Event sent;
  };

  int64_t rows_;        // of any step, at most
  int64_t stride_ = 0;  // rows of the step, or wanted ones, where these are more
  int64_t pages_;       // entries of page tables
  DeviceMemory device_;
  HostBuffer host_[2];
  int turn_ = 0;
  // A rotary table takes its frequencies and the amplitude. Those that are dynamic or have other frequencies for long
  // sequences come last.
  struct Table {
    size_t start;  // in frequencies_
    bool dynamic;
  };
  std::vector<Table> tables_;
  std::vector<RotarySpec> dynamic_;
  size_t fixedCount_ = 0;                 // numbers of the tables that are not
  std::vector<float> shortFrequencies_;   // of the dynamic tables, for short sequences
  std::vector<float> packedFrequencies_;  // these, then those of the step's long sequences
  DeviceMemory frequencies_;              // fixed tables; dynamic ones (1 + rows_) times
  DeviceMemory noOffsets_;                // (rows_) zeros, of fixed tables beside dynamic ones
  StepView view_{};
  struct LongTile {
    RowTile tile;
    int64_t lastPosition;
  };
  std::vector<LongTile> longTiles_;
  std::vector<int32_t> deviceRows_;  // (rows of the step) where each one is on the device
  DecodePlan decodePlan_;
  std::vector<DecodePlan::Row> decodeRows_;
  std::vector<int64_t> decodeParts_;
  int64_t mostItems_;
  int64_t itemCount_ = 0;
  int64_t usedPages_ = 0;
  std::vector<int32_t> pageOffsets_;  // by slice
  int64_t generatedCount_ = 0;
  int64_t promptCount_ = 0;
  PromptRows promptsByClass_{};
  int64_t tileCount_ = 0;
};

}  // namespace shardspeed::cuda
