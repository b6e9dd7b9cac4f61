#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backend.h"
#include "model/shard.h"
#include "model/spec.h"

namespace shardspeed {

// The rows that one role contributes to a fused matrix: row source.first + r of the role's tensor becomes row firstRow
// + (r / kGateBlock) * blockStride + r % kGateBlock, for r in [0, source.count). A blockStride of kGateBlock leaves the
// rows together; twice that interleaves gate and up.
struct MatrixPart {
  std::string role;  // without .weight or .bias
  Range source;
  int64_t roleRows = 0;  // of the whole tensor
  int64_t firstRow = 0;
  int64_t blockStride = kGateBlock;
};

// A matrix as a rank holds it: q, k and v as one, gate and up as one; some rows of the tensors, or some columns.
struct MatrixLayout {
  int64_t rows = 0;
  Range source;          // the columns of the tensors that are its own
  int64_t roleCols = 0;  // of the whole tensors
  bool summed = false;   // a row-parallel product's: the bias is whole, and added to the sum over ranks
  bool exact = false;    // kept in fp32 whatever the engine's dtype
  std::vector<MatrixPart> parts;
  int64_t stackRows = 0;  // of each of several matrices that stand one behind the other; 0 = it is one

  int64_t cols() const { return source.count; }
};

MatrixLayout plainLayout(const std::string& role, int64_t rows, int64_t cols);
MatrixLayout tokensLayout(const ModelSpec& spec, const Shard& shard);
MatrixLayout headLayout(const ModelSpec& spec, const Shard& shard);
MatrixLayout positionsLayout(const ModelSpec& spec);
MatrixLayout tokenTypesLayout(const ModelSpec& spec);
MatrixLayout transformLayout(const ModelSpec& spec);
// For models with BucketPositions.
MatrixLayout scoresLayout(const ModelSpec& spec, const Shard& shard);
// For models with a RelativeTable.
MatrixLayout relativeTableLayout(const ModelSpec& spec);
MatrixLayout qkvLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
// The same of rows of distances, where a layer has matrices for them. Of what its scores do not use, and of values,
// which there are none, the rows of another part are a filling.
MatrixLayout relativeQkvLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
bool separatesRelative(const LayerSpec& kind);
MatrixLayout outputLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
MatrixLayout upLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
MatrixLayout downLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);

// A layer with latent attention has these five in place of qkvLayout.
MatrixLayout queryLatentLayout(const ModelSpec& spec, int64_t layer);
MatrixLayout queryLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
MatrixLayout latentLayout(const ModelSpec& spec, int64_t layer);
MatrixLayout sharedKeyLayout(const ModelSpec& spec, int64_t layer);
MatrixLayout keysValuesLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);

// A layer with experts has these five. The last row of the router's matrix is the gate of the shared expert, where that
// is gated.
MatrixLayout routerLayout(const ModelSpec& spec, int64_t layer);
// One matrix for all experts: each takes expertRows() of its rows, the last of them padding.
MatrixLayout expertsUpLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
MatrixLayout expertsDownLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
MatrixLayout sharedUpLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
MatrixLayout sharedDownLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
// Rows of one expert in a matrix of all of them: whole blocks of kGateBlock.
int64_t expertRows(int64_t outputs, bool gated);

// A vector that is divided by heads: elements `held` of a role of `size`.
struct VectorLayout {
  std::string role;
  int64_t size = 0;
  Range held;
};
VectorLayout queryNormLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
VectorLayout keyNormLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
VectorLayout sinksLayout(const ModelSpec& spec, const Shard& shard, int64_t layer);
// All of a rank: norms of queries and keys, and sinks.
std::vector<VectorLayout> vectorLayouts(const ModelSpec& spec, const Shard& shard);

// The heads of a layer that the rank computes.
AttentionShape attentionShape(const ModelSpec& spec, const Shard& shard, int64_t layer);

// Whether the rank holds the table of positions: one does, since embeddings are summed over ranks.
bool holdsPositions(const ModelSpec& spec, const Shard& shard);
bool holdsTokenTypes(const ModelSpec& spec, const Shard& shard);

// All matrices of a rank.
std::vector<MatrixLayout> modelLayouts(const ModelSpec& spec, const Shard& shard);

std::string layerRole(int64_t layer, const char* name);

}  // namespace shardspeed
