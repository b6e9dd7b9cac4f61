#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/loader.h"
#include "model/spec.h"
#include "random.h"
#include "temp_file.h"

namespace shardspeed::test {

// A small spec of a Llama's kind; tests change what they are about.
ModelSpec llamaSpec();
// And of an OPT's kind.
ModelSpec optSpec();
// A Llama's kind with experts: 2 of 5 a token in both layers, and a shared one that is gated.
ModelSpec expertsSpec();
// A Llama's kind with latent attention: queries of lower rank in the first layer, none in the second.
ModelSpec latentSpec();
// Models that differ in what is divided: heads and KV heads that come out even and do not, odd sizes, every option.
std::vector<ModelSpec> variedSpecs();

// Changes of all kinds of layers of a spec.
void setHeads(ModelSpec& spec, int64_t heads, int64_t kvHeads);
void setFeedForwardSize(ModelSpec& spec, int64_t size);
void setResidual(ModelSpec& spec, Residual residual);
// Norms of what parts compute, and ahead of them or not.
void setOutputNorms(ModelSpec& spec, bool input);
// Norms behind the sums, and none ahead of the head.
void setPostNorm(ModelSpec& spec);
// Dynamic NTK past so many positions.
void makeDynamic(RotarySpec& table, int64_t originalPositions, double factor);
DenseFeedForward& denseOf(LayerSpec& layer);
ExpertsFeedForward& expertsOf(LayerSpec& layer);
LogitsOutput& logitsOf(ModelSpec& spec);

// A checkpoint with random values for every role of a spec, and what it computes, in fp64 and by the definition of a
// transformer: separate q, k, v, gate and up, one token after another.
class TinyModel {
 public:
  TinyModel(ModelSpec spec, DType stored, uint64_t seed, bool biases = true, bool normWeights = true);

  const ModelSpec& spec() const { return spec_; }
  WeightPlan& plan() { return plan_; }
  // (tokens, vocab), weights rounded to the dtype that the engine would keep them in.
  std::vector<double> logits(const std::vector<int32_t>& tokens, DType engine = DType::kF32) const;
  // Greedy continuation.
  std::vector<int32_t> continuation(std::vector<int32_t> tokens, int64_t newTokens) const;
  // (rows, cols) of a role, as stored.
  const std::vector<float>& values(const std::string& role) const { return tensors_.at(role).values; }

 private:
  struct Tensor {
    int64_t rows = 0, cols = 0;
    std::vector<float> values;
  };
  void add(const std::string& role, int64_t rows, int64_t cols, float deviation, float mean = 0);
  void addLinear(const std::string& role, int64_t rows, int64_t cols);
  void addNorm(const std::string& role, const NormSpec& spec, int64_t width);
  void addLayer(const std::string& layer, const LayerSpec& spec);
  std::vector<double> linear(const std::string& role, const std::vector<double>& x, DType engine) const;
  std::vector<double> norm(const std::string& role, const NormSpec& spec, const std::vector<double>& x) const;
  void normHeads(const std::string& role, const QkNormSpec& spec, int64_t dim, std::vector<double>& x) const;
  std::vector<double> attend(int64_t index, int64_t position, int64_t totalLength, const std::vector<double>& x,
                             std::vector<std::vector<double>>& keys, std::vector<std::vector<double>>& values,
                             DType engine) const;
  // What relative positions add to the scores of a query and neighbouring keys, the first of which is so far from it.
  std::vector<double> relativeTerms(const std::string& layer, const AttentionSpec& spec, int64_t head,
                                    int64_t firstDistance, const double* query, const std::vector<const double*>& keys,
                                    DType engine) const;
  void addLatent(const std::string& stem, const AttentionSpec& spec);
  std::vector<double> latentHeads(const std::string& stem, const std::string& name, const AttentionSpec& spec,
                                  const std::vector<double>& x, DType engine) const;
  void addFeedForward(const std::string& stem, int64_t size, bool gated, ActivationKind activation);
  std::vector<double> network(const std::string& stem, const std::vector<double>& x, ActivationKind activation,
                              bool gated, const std::optional<ClampedGate>& clamped, DType engine) const;
  std::vector<double> mixture(const std::string& layer, const ExpertsFeedForward& spec, const std::vector<double>& x,
                              DType engine) const;
  std::vector<double> feedForward(int64_t index, const std::vector<double>& x, DType engine) const;
  // What a part computes of the rows that it reads.
  using Part = std::function<std::vector<double>(const std::vector<double>&)>;
  void runLayer(int64_t index, std::vector<double>& hidden, const Part& attention, const Part& feedForward) const;

  ModelSpec spec_;
  DType stored_;
  bool biases_, normWeights_;
  Random random_;
  std::map<std::string, Tensor> tensors_;
  std::unique_ptr<TempFile> file_;
  WeightPlan plan_;
};

}  // namespace shardspeed::test
