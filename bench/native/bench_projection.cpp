#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bench.h"
#include "cuda/projection.h"
#include "product_cases.h"
#include "shapes.h"

// The matrix products of a layer and the head, with what is fused into them, at the numbers of rows of decode steps (1
// to 256) and of prompts.

namespace shardspeed::bench {

namespace {

// One case with memory for up to `rows` rows.
class ProjectionBench {
 public:
  ProjectionBench(Bench& bench, const ModelShape& model, const ProductCase& wanted, int64_t rows)
      : bench_(bench), model_(model), case_(wanted), isStream_(wanted.normed) {
    const int64_t paddedOut = cuda::padTo(wanted.outFeatures, cuda::kRowStep);
    const int64_t paddedIn = cuda::padTo(wanted.inFeatures, cuda::kColumnStep);
    const int64_t width = wanted.gated ? wanted.outFeatures / 2 : wanted.outFeatures;
    weightBytes_ = static_cast<double>(paddedOut * paddedIn) * 2;
    const int copies = bench.rotationFor(weightBytes_);
    const DType dtype = bench.options().dtype;
    for (int i = 0; i < copies; ++i)
      weights_.push_back(randomElements(dtype, static_cast<size_t>(paddedOut * paddedIn), 0.02f));
    const auto inCount = static_cast<size_t>(rows * paddedIn);
    in_ = isStream_ ? randomFloats(inCount, 1) : randomElements(dtype, inCount, 1);
    outStride_ = cuda::padTo(width, cuda::kColumnStep);
    out_ = randomFloats(static_cast<size_t>(rows * outStride_), 1);
    bias_ = randomFloats(static_cast<size_t>(paddedOut), 0.02f);
    normWeight_ = randomFloats(static_cast<size_t>(paddedIn), 1);
    scratch_ = cuda::DeviceMemory(inCount * 2, "normalised rows");
    norm_.kind = model.isLlama ? NormKind::kRms : NormKind::kLayer;
    norm_.weight = normWeight_.as<float>();
    norm_.bias = model.isLlama ? nullptr : normWeight_.as<float>();
  }

  void measure(int64_t rows) {
    cuda::ProjectionParams params = paramsFor(rows);
    const double microseconds =
        bench_.measure(static_cast<int>(weights_.size()), [&](cudaStream_t stream, int rotation) {
          params.weight = weights_[static_cast<size_t>(rotation)].as();
          params.stream = stream;
          cuda::project(params);
        });
    const auto out = static_cast<double>(case_.gated ? case_.outFeatures / 2 : case_.outFeatures);
    const auto in = static_cast<double>(case_.inFeatures);
    const double outBytes = out * (case_.residual ? 8 : case_.logits ? 4 : 2);
    const double features = static_cast<double>(case_.outFeatures);
    Figure figure{"projection", case_.kernel, model_.name, std::to_string(rows) + " rows", microseconds};
    figure.bytes = features * in * 2 + static_cast<double>(rows) * (in * (isStream_ ? 4 : 2) + outBytes);
    figure.operations = 2 * static_cast<double>(rows) * features * in;
    bench_.add(figure);
  }

 private:
  cuda::ProjectionParams paramsFor(int64_t rows) const {
    cuda::ProjectionParams params;
    params.dtype = bench_.options().dtype;
    params.rows = rows;
    params.outFeatures = case_.outFeatures;
    params.inFeatures = case_.inFeatures;
    params.bias = model_.isLlama || case_.logits ? nullptr : bias_.as<float>();
    params.in = in_.as();
    params.inKind = isStream_ ? cuda::RowKind::kStream : cuda::RowKind::kElement;
    params.inStride = cuda::padTo(case_.inFeatures, cuda::kColumnStep);
    params.norm = case_.normed ? &norm_ : nullptr;
    params.out = out_.as();
    params.outKind = case_.residual || case_.logits ? cuda::RowKind::kStream : cuda::RowKind::kElement;
    params.outStride = outStride_;
    params.activation = case_.activation;
    params.gated = case_.gated;
    params.residual = case_.residual;
    params.scratch = scratch_.as();
    return params;
  }

  Bench& bench_;
  const ModelShape& model_;
  const ProductCase& case_;
  bool isStream_;
  double weightBytes_;
  int64_t outStride_;
  std::vector<cuda::DeviceMemory> weights_;
  cuda::DeviceMemory in_, out_, bias_, normWeight_, scratch_;
  cuda::NormParams norm_;
};

}  // namespace

void measureProjections(Bench& bench) {
  std::vector<int64_t> rowCounts{1, 8, 16, 32, 64, 128, 256, 512, 2048};
  if (bench.options().quick) rowCounts = {1, 16, 64, 2048};
  if (bench.options().smoke) rowCounts = {1, 9, 70};
  if (!bench.options().rows.empty()) rowCounts = bench.options().rows;
  // Logits are wanted of few rows only.
  constexpr int64_t kMostHeadRows = 256;
  for (const ModelShape& model : bench.models())
    for (const ProductCase& wanted : productCases(model)) {
      if (!bench.wantsKernel(wanted.kernel)) continue;
      const int64_t most = wanted.logits ? std::min(kMostHeadRows, rowCounts.back()) : rowCounts.back();
      ProjectionBench projection(bench, model, wanted, most);
      for (const int64_t rows : rowCounts)
        if (rows <= most) projection.measure(rows);
    }
}

}  // namespace shardspeed::bench
