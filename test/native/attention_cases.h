#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "check.h"

// The table of what attention has to compute. Both backends run all of it against an fp64 reference.

namespace shardspeed::test {

struct AttentionCase {
  std::string name;
  AttentionShape shape{4, 2, 32};
  std::vector<int64_t> lengths{1, 17, 40};  // of the sequences
  AttentionMask mask = CausalMask{};
  AttentionPositions positions = NoPositions{};  // slopes are filled in; of rotary tables, see OwnedCall
  float scale = 0;                               // 0: 1 / sqrt(headDim)
  float softCap = 0;
  float clamp = 0;
  bool sinks = false;
  std::optional<NormKind> qkNorm = {};
  QkNormSpan normSpan = QkNormSpan::kHead;
  bool normsHeadsApart = false;
  bool normsAfterPositions = false;
  std::optional<QueryTemperature> temperature = {};
  float amplitude = 1;         // of rotary positions
  int64_t rotaryTable = 1;     // of two; the first is never dynamic
  double dynamicFactor = 0;    // of rotary positions, beyond 20 tokens; 0: frequencies are fixed
  int64_t layers = 1;          // with two, the other layer's keys and values must stay apart
  double cpuTolerance = 1e-5;  // absolute and relative, of fp32

  int64_t columns() const { return (shape.heads + 2 * shape.kvHeads) * shape.headDim; }
  int64_t outColumns() const { return shape.heads * shape.headDim; }
};

// Every element of a list, or in sanitizer builds every third one.
template <typename T, typename Body>
void forSome(const std::vector<T>& values, const Body& body) {
  for (size_t i = 0; i < values.size(); i += kReduced ? 3 : 1) body(values[i]);
}

inline void addShapes(std::vector<AttentionCase>& cases) {
  // Widths that kernels are made for, that end within a vector, a 16-byte piece or an mma, and odd ones.
  forSome<int64_t>(
      {1, 2, 3, 8, 12, 16, 20, 24, 33, 40, 48, 64, 72, 80, 96, 104, 112, 128, 136, 160, 192, 200, 223, 250, 256},
      [&](int64_t dim) {
        // In narrow heads a row's few elements may cancel out.
        const AttentionShape shape = dim < 8 ? AttentionShape{16, 8, dim} : AttentionShape{2, 1, dim};
        AttentionPositions positions = NoPositions{};
        if (dim % 2 == 0) positions = RotaryPositions{dim};
        cases.push_back({"head dim " + std::to_string(dim), shape, {1, 18, 37}, CausalMask{}, positions});
      });
  forSome<int64_t>({1, 2, 3, 6, 7, 8, 9, 16}, [&](int64_t group) {
    cases.push_back({"group of " + std::to_string(group), {2 * group, 2, 16}, {1, 5, 33}, {}, RotaryPositions{16}});
  });
  // Wider than tiles.
  cases.push_back({"head dim 264", {2, 1, 264}, {1, 18, 140}, WindowMask{100}, RotaryPositions{264}});
  cases.push_back({"head dim 515", {2, 2, 515}, {1, 18}, FullMask{}});
  cases.push_back({"group of 71", {71, 1, 16}, {1, 18}});
  cases.push_back({"group of 128", {128, 1, 8}, {2, 17}});
  cases.push_back({"no groups", {5, 5, 24}, {1, 16, 50}});
  // Around pages of 16, blocks of 64 and stretches of 128 tokens.
  cases.push_back({"lengths", {3, 1, 64}, {1, 2, 15, 16, 17, 31, 33, 64, 65, 127, 129, 200}, {}, RotaryPositions{64}});
  cases.push_back({"two layers", {4, 2, 20}, {1, 37, 16, 5, 50}});
  cases.back().layers = 2;
}

inline void addMasks(std::vector<AttentionCase>& cases) {
  const std::vector<int64_t> lengths{1, 17, 33, 131};
  forSome<int64_t>({1, 2, 15, 16, 17, 50, 64, 65, 100, 128, 200}, [&](int64_t size) {
    const AttentionShape shape{2, 1, size % 2 == 0 ? 24 : 160};
    cases.push_back({"window of " + std::to_string(size), shape, lengths, WindowMask{size}});
  });
  forSome<int64_t>({1, 5, 16, 32, 50, 64, 100, 128, 1 << 20}, [&](int64_t size) {
    const AttentionShape shape{2, 1, size % 2 == 0 ? 24 : 136};
    cases.push_back({"chunks of " + std::to_string(size), shape, lengths, ChunkMask{size}});
  });
  cases.push_back({"window in groups", {6, 2, 16}, {3, 90, 140}, WindowMask{37}, RotaryPositions{16}});
  cases.push_back({"window beyond stretches", {2, 1, 16}, {420}, WindowMask{300}});
  cases.push_back({"window beyond all", {2, 1, 16}, {40}, WindowMask{int64_t{1} << 40}});
  cases.push_back({"full", {4, 2, 24}, {1, 16, 40, 70}, FullMask{}});
  cases.push_back({"full, of wide heads", {2, 1, 136}, {3, 49, 131}, FullMask{}, RotaryPositions{136}});
  forSome<int64_t>({0, 7, 16, 64}, [&](int64_t size) {
    const AttentionShape shape{2, 1, size % 2 == 0 ? 32 : 136};
    cases.push_back({"band of " + std::to_string(size), shape, lengths, BandMask{size}});
  });
  cases.push_back({"band beyond all", {2, 1, 16}, {40}, BandMask{int64_t{1} << 40}});
}

inline void addScores(std::vector<AttentionCase>& cases) {
  const AttentionShape shape{4, 2, 32};
  const std::vector<int64_t> lengths{1, 17, 135};
  const auto add = [&](const char* name, AttentionMask mask, AttentionPositions positions, float softCap,
                       float scale) -> AttentionCase& {
    cases.push_back({name, shape, lengths, std::move(mask), std::move(positions), scale, softCap});
    return cases.back();
  };
  add("ALiBi", CausalMask{}, AlibiPositions{}, 0, 0);
  add("ALiBi in a window", WindowMask{50}, AlibiPositions{}, 0, 0);
  add("ALiBi in chunks", ChunkMask{64}, AlibiPositions{}, 0, 0);
  add("soft cap", CausalMask{}, NoPositions{}, 2, 0);
  add("soft cap in a window", WindowMask{37}, RotaryPositions{32}, 2, 0);
  add("soft cap of large scores", CausalMask{}, NoPositions{}, 30, 5).cpuTolerance = 1e-4;
  add("ALiBi and soft cap", CausalMask{}, AlibiPositions{}, 2, 0);
  add("negative scale", CausalMask{}, NoPositions{}, 0, -0.3f);
  add("large scores", CausalMask{}, NoPositions{}, 0, 20).cpuTolerance = 2e-3;
  add("equal scores", CausalMask{}, NoPositions{}, 0, 1e-30f);
  add("full ALiBi", FullMask{}, AlibiPositions{}, 0, 0);
  const BucketPositions buckets{1, {0}};  // the scores are filled in
  add("scores of distances", CausalMask{}, buckets, 0, 0);
  add("full scores of distances", FullMask{}, buckets, 0, 0);
  add("scores of distances in a band", BandMask{9}, buckets, 2, 0).sinks = true;
  AttentionCase& wide = add("full scores of distances, of wide heads", FullMask{}, buckets, 0, 0);
  wide.shape = {2, 1, 136};
  for (const auto& [queries, keys] : {std::pair{true, true}, {true, false}, {false, true}}) {
    const std::string name = std::string("relative") + (queries ? ", of queries" : "") + (keys ? ", of keys" : "");
    AttentionCase& relative = add(name.c_str(), FullMask{}, RelativePositions{queries, keys}, 0, 0.1f);
    relative.shape = {2, 2, queries ? 21 : 32};
  }
  add("relative, of earlier tokens", WindowMask{60}, RelativePositions{true, true}, 3, -0.1f).shape = {3, 3, 24};
  AttentionCase& sinks = add("sinks", CausalMask{}, NoPositions{}, 0, 0);
  sinks.sinks = true;
  AttentionCase& sinksInWindow = add("sinks in a window", WindowMask{20}, RotaryPositions{32}, 0, 0);
  sinksInWindow.sinks = true;
  AttentionCase& clamp = add("clamp", CausalMask{}, RotaryPositions{32}, 0, 0);
  clamp.clamp = 0.7f;
}

inline void addPositions(std::vector<AttentionCase>& cases) {
  const std::vector<int64_t> lengths{1, 20, 69};
  for (const RotaryLayout layout : {RotaryLayout::kHalf, RotaryLayout::kInterleaved}) {
    const std::string name = layout == RotaryLayout::kHalf ? "half-split" : "interleaved";
    const auto add = [&](int64_t dim, int64_t dims) -> AttentionCase& {
      cases.push_back({name + " rotary, " + std::to_string(dims) + " of " + std::to_string(dim),
                       {3, 1, dim},
                       lengths,
                       CausalMask{},
                       RotaryPositions{dims, layout}});
      return cases.back();
    };
    forSome<int64_t>({2, 10, 16, 26, 32, 40}, [&](int64_t dims) { add(40, dims); });
    add(21, 20);
    add(64, 64).amplitude = 1.25f;
    forSome<double>({1, 2, 4}, [&](double factor) {
      AttentionCase& dynamic = add(16, 16);
      dynamic.name += ", dynamic by " + std::to_string(factor);
      dynamic.lengths = {60, 19, 20, 21, 33, 60};
      dynamic.dynamicFactor = factor;
    });
  }
  cases.push_back({"fixed rotary beside dynamic", {3, 1, 16}, {17, 19, 33}, CausalMask{}, RotaryPositions{16}});
  cases.back().dynamicFactor = 2;
  cases.back().rotaryTable = 0;
  for (const QkNormSpan span : {QkNormSpan::kHead, QkNormSpan::kRow})
    for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
      for (const int64_t dim : {16, 21}) {
        AttentionCase norms{std::string("norms of ") + (span == QkNormSpan::kHead ? "heads" : "rows"), {6, 2, dim}};
        if (dim % 2 == 0) norms.positions = RotaryPositions{dim / 2};
        norms.qkNorm = kind;
        norms.normSpan = span;
        cases.push_back(norms);
        norms.name += " behind positions";
        norms.normsAfterPositions = true;
        cases.push_back(norms);
        if (span == QkNormSpan::kRow) continue;
        norms.name = "norms of each head";
        norms.normsAfterPositions = false;
        norms.normsHeadsApart = true;
        norms.clamp = 1.2f;
        cases.push_back(norms);
      }
  for (const bool turned : {true, false}) {
    AttentionCase warm{turned ? "a temperature of turned queries" : "a temperature of queries", {4, 2, 24}, lengths};
    if (turned) warm.positions = RotaryPositions{24};
    warm.temperature = QueryTemperature{0.4f, 7, turned ? 1 : 0};
    cases.push_back(warm);
  }
}

inline const std::vector<AttentionCase>& attentionCases() {
  static const std::vector<AttentionCase> all = [] {
    std::vector<AttentionCase> cases;
    addShapes(cases);
    addMasks(cases);
    addScores(cases);
    addPositions(cases);
    for (AttentionCase& one : cases)
      if (one.scale == 0) one.scale = 1 / std::sqrt(static_cast<float>(one.shape.headDim));
    return cases;
  }();
  return all;
}

}  // namespace shardspeed::test
