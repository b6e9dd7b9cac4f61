#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backend.h"
#include "model/spec.h"

namespace shardspeed {

// The rows that one role contributes to a fused matrix: its row r becomes row firstRow + (r / kGateBlock) * blockStride
// + r % kGateBlock. A blockStride of kGateBlock leaves the rows together; twice that interleaves gate and up.
struct MatrixPart {
  std::string role;  // without .weight or .bias
  int64_t rows = 0;
  int64_t firstRow = 0;
  int64_t blockStride = kGateBlock;
};

// A matrix as the engine holds it: q, k and v as one, gate and up as one.
struct MatrixLayout {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<MatrixPart> parts;
};

MatrixLayout plainLayout(const std::string& role, int64_t rows, int64_t cols);
MatrixLayout qkvLayout(const ModelSpec& spec, int64_t layer);
MatrixLayout outputLayout(const ModelSpec& spec, int64_t layer);
MatrixLayout upLayout(const ModelSpec& spec, int64_t layer);
MatrixLayout downLayout(const ModelSpec& spec, int64_t layer);

// All matrices of a model.
std::vector<MatrixLayout> modelLayouts(const ModelSpec& spec);

std::string layerRole(int64_t layer, const char* name);

}  // namespace shardspeed
