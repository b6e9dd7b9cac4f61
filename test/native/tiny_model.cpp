#include "tiny_model.h"

#include <algorithm>
#include <cmath>

#include "reference.h"
#include "stored.h"

namespace shardspeed::test {

ModelSpec llamaSpec() {
  ModelSpec spec;
  spec.family = "llama";
  spec.layers = 2;
  spec.vocabSize = 53;
  spec.hiddenSize = spec.embeddingSize = 40;
  spec.heads = 4;
  spec.kvHeads = 2;
  spec.headDim = 12;
  spec.ffnSize = 37;
  spec.maxPositions = 128;
  spec.gatedFfn = true;
  spec.activation = ActivationKind::kSilu;
  spec.norm = NormKind::kRms;
  spec.positions = PositionKind::kRotary;
  for (int j = 0; j < 6; ++j) spec.rotary.inverseFrequencies.push_back(std::pow(10000.0f, static_cast<float>(-j) / 6));
  spec.attentionScales = {0.3f, 0.25f};
  return spec;
}

ModelSpec optSpec() {
  ModelSpec spec;
  spec.family = "opt";
  spec.layers = 2;
  spec.vocabSize = 50;
  spec.hiddenSize = spec.embeddingSize = 36;
  spec.heads = spec.kvHeads = 3;
  spec.headDim = 12;
  spec.ffnSize = 50;
  spec.maxPositions = 100;
  spec.tiedHead = true;
  spec.positions = PositionKind::kLearned;
  spec.positionOffset = 2;
  spec.attentionScales = {0.29f, 0.29f};
  return spec;
}

std::vector<ModelSpec> variedSpecs() {
  std::vector<ModelSpec> result = {llamaSpec(), optSpec()};
  ModelSpec uneven = llamaSpec();
  uneven.heads = 9;
  uneven.kvHeads = 3;
  uneven.ffnSize = 137;
  uneven.vocabSize = 101;
  result.push_back(uneven);
  ModelSpec oneKvHead = llamaSpec();
  oneKvHead.heads = 8;
  oneKvHead.kvHeads = 1;
  oneKvHead.tiedHead = true;
  result.push_back(oneKvHead);
  ModelSpec postNorm = optSpec();
  postNorm.normPlacement = NormPlacement::kPost;
  postNorm.finalNorm = false;
  result.push_back(postNorm);
  ModelSpec projected = optSpec();
  projected.embeddingSize = projected.hiddenSize / 2;
  result.push_back(projected);
  return result;
}

TinyModel::TinyModel(ModelSpec spec, DType stored, uint64_t seed, bool biases, bool normWeights)
    : spec_(std::move(spec)), stored_(stored), biases_(biases), normWeights_(normWeights), random_(seed) {
  const bool projected = spec_.embeddingSize != spec_.hiddenSize;
  add("embed.tokens.weight", spec_.vocabSize, spec_.embeddingSize, 1);
  if (spec_.positions == PositionKind::kLearned)
    add("embed.positions.weight", spec_.maxPositions + spec_.positionOffset, spec_.hiddenSize, 0.5f);
  if (projected) {
    addLinear("embed.projection", spec_.hiddenSize, spec_.embeddingSize);
    addLinear("head.projection", spec_.embeddingSize, spec_.hiddenSize);
  }
  if (spec_.finalNorm) addNorm("norm");
  if (!spec_.tiedHead) addLinear("head", spec_.vocabSize, spec_.embeddingSize);
  for (int64_t n = 0; n < spec_.layers; ++n) {
    const std::string layer = "layers." + std::to_string(n) + ".";
    addNorm(layer + "attn.norm");
    addNorm(layer + "mlp.norm");
    addLinear(layer + "attn.q", spec_.heads * spec_.headDim, spec_.hiddenSize);
    addLinear(layer + "attn.k", spec_.kvHeads * spec_.headDim, spec_.hiddenSize);
    addLinear(layer + "attn.v", spec_.kvHeads * spec_.headDim, spec_.hiddenSize);
    addLinear(layer + "attn.o", spec_.hiddenSize, spec_.heads * spec_.headDim);
    if (spec_.gatedFfn) addLinear(layer + "mlp.gate", spec_.ffnSize, spec_.hiddenSize);
    addLinear(layer + "mlp.up", spec_.ffnSize, spec_.hiddenSize);
    addLinear(layer + "mlp.down", spec_.hiddenSize, spec_.ffnSize);
  }
  std::vector<uint8_t> bytes(10);  // as a header would be
  for (const auto& [role, tensor] : tensors_) {
    WeightView view;
    view.role = role;
    view.tensor = "model." + role;
    view.dtype = stored_;
    view.byteOffset = static_cast<int64_t>(bytes.size());
    view.shape = tensor.rows == 1 ? std::vector<int64_t>{tensor.cols} : std::vector<int64_t>{tensor.rows, tensor.cols};
    view.strides = tensor.rows == 1 ? std::vector<int64_t>{1} : std::vector<int64_t>{tensor.cols, 1};
    plan_.weights.push_back(view);
    for (const float value : tensor.values) appendStored(stored_, value, bytes);
  }
  file_ = std::make_unique<TempFile>(bytes);
  plan_.files.push_back(file_->weightFile());
}

void TinyModel::add(const std::string& role, int64_t rows, int64_t cols, float deviation, float mean) {
  Tensor tensor{rows, cols, {}};
  for (int64_t i = 0; i < rows * cols; ++i)
    tensor.values.push_back(roundedTo(stored_, mean + random_.normal(deviation)));
  tensors_[role] = std::move(tensor);
}

void TinyModel::addLinear(const std::string& role, int64_t rows, int64_t cols) {
  add(role + ".weight", rows, cols, 1 / std::sqrt(static_cast<float>(cols)));
  // Heads and single matrices with a bias beside others without one are all possible.
  if (biases_ && role.find("attn.k") == std::string::npos) add(role + ".bias", 1, rows, 0.3f);
}

void TinyModel::addNorm(const std::string& role) {
  if (!normWeights_) return;
  add(role + ".weight", 1, spec_.hiddenSize, 0.2f, 1);
  if (spec_.norm == NormKind::kLayer) add(role + ".bias", 1, spec_.hiddenSize, 0.2f);
}

std::vector<double> TinyModel::linear(const std::string& role, const std::vector<double>& x, DType engine) const {
  const Tensor& weight = tensors_.at(role + ".weight");
  const auto bias = tensors_.find(role + ".bias");
  std::vector<double> out(static_cast<size_t>(weight.rows));
  for (size_t r = 0; r < out.size(); ++r) {
    double sum = bias == tensors_.end() ? 0 : static_cast<double>(bias->second.values[r]);
    for (size_t k = 0; k < x.size(); ++k)
      sum += x[k] * static_cast<double>(roundedTo(engine, weight.values[r * x.size() + k]));
    out[r] = sum;
  }
  return out;
}

std::vector<double> TinyModel::norm(const std::string& role, const std::vector<double>& x) const {
  const auto doubles = [&](const std::string& name) {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::vector<double>{}
                                   : std::vector<double>(found->second.values.begin(), found->second.values.end());
  };
  const std::vector<double> weight = doubles(role + ".weight"), bias = doubles(role + ".bias");
  return normOf(spec_.norm, static_cast<double>(spec_.normEpsilon), weight.empty() ? nullptr : weight.data(),
                bias.empty() ? nullptr : bias.data(), x);
}

static void addTo(std::vector<double>& target, const std::vector<double>& values) {
  for (size_t i = 0; i < target.size(); ++i) target[i] += values[i];
}

void TinyModel::attend(const std::string& layer, size_t index, int64_t position, int64_t totalLength,
                       std::vector<double>& hidden, std::vector<std::vector<double>>& keys,
                       std::vector<std::vector<double>>& values, DType engine) const {
  const bool normFirst = spec_.normPlacement == NormPlacement::kPre;
  const std::vector<double> x = normFirst ? norm(layer + "attn.norm", hidden) : hidden;
  std::vector<double> query = linear(layer + "attn.q", x, engine), key = linear(layer + "attn.k", x, engine);
  const auto dim = static_cast<size_t>(spec_.headDim);
  if (spec_.positions == PositionKind::kRotary) {
    for (size_t at = 0; at < query.size(); at += dim) rotate(spec_.rotary, position, totalLength, &query[at]);
    for (size_t at = 0; at < key.size(); at += dim) rotate(spec_.rotary, position, totalLength, &key[at]);
  }
  keys.push_back(key);
  values.push_back(linear(layer + "attn.v", x, engine));
  std::vector<double> mixed;
  for (int64_t head = 0; head < spec_.heads; ++head) {
    const size_t kvAt = static_cast<size_t>(head / (spec_.heads / spec_.kvHeads)) * dim;
    std::vector<const double*> headKeys, headValues;
    for (size_t t = 0; t < keys.size(); ++t) {
      headKeys.push_back(&keys[t][kvAt]);
      headValues.push_back(&values[t][kvAt]);
    }
    const std::vector<double> result = attentionOf(&query[static_cast<size_t>(head) * dim], headKeys, headValues, dim,
                                                   static_cast<double>(spec_.attentionScales[index]));
    mixed.insert(mixed.end(), result.begin(), result.end());
  }
  addTo(hidden, linear(layer + "attn.o", mixed, engine));
  if (!normFirst) hidden = norm(layer + "attn.norm", hidden);
}

void TinyModel::feedForward(const std::string& layer, std::vector<double>& hidden, DType engine) const {
  const bool normFirst = spec_.normPlacement == NormPlacement::kPre;
  const std::vector<double> x = normFirst ? norm(layer + "mlp.norm", hidden) : hidden;
  std::vector<double> inner = linear(layer + (spec_.gatedFfn ? "mlp.gate" : "mlp.up"), x, engine);
  for (double& value : inner) value = activationOf(spec_.activation, value);
  if (spec_.gatedFfn) {
    const std::vector<double> up = linear(layer + "mlp.up", x, engine);
    for (size_t i = 0; i < inner.size(); ++i) inner[i] *= up[i];
  }
  addTo(hidden, linear(layer + "mlp.down", inner, engine));
  if (!normFirst) hidden = norm(layer + "mlp.norm", hidden);
}

std::vector<double> TinyModel::logits(const std::vector<int32_t>& tokens, DType engine) const {
  const bool projected = spec_.embeddingSize != spec_.hiddenSize;
  std::vector<std::vector<std::vector<double>>> keys(static_cast<size_t>(spec_.layers)), values = keys;
  const auto rowOf = [&](const std::string& role, int64_t row) {
    const Tensor& table = tensors_.at(role);
    std::vector<double> out;
    for (int64_t k = 0; k < table.cols; ++k)
      out.push_back(static_cast<double>(roundedTo(engine, table.values[static_cast<size_t>(row * table.cols + k)])));
    return out;
  };
  std::vector<double> all;
  for (size_t position = 0; position < tokens.size(); ++position) {
    std::vector<double> hidden = rowOf("embed.tokens.weight", tokens[position]);
    if (projected) hidden = linear("embed.projection", hidden, engine);
    if (spec_.positions == PositionKind::kLearned)
      addTo(hidden, rowOf("embed.positions.weight", static_cast<int64_t>(position) + spec_.positionOffset));
    for (size_t n = 0; n < keys.size(); ++n) {
      const std::string layer = "layers." + std::to_string(n) + ".";
      attend(layer, n, static_cast<int64_t>(position), static_cast<int64_t>(tokens.size()), hidden, keys[n], values[n],
             engine);
      feedForward(layer, hidden, engine);
    }
    if (spec_.finalNorm) hidden = norm("norm", hidden);
    if (projected) hidden = linear("head.projection", hidden, engine);
    if (spec_.tiedHead) {
      for (int64_t token = 0; token < spec_.vocabSize; ++token) {
        const std::vector<double> row = rowOf("embed.tokens.weight", token);
        double sum = 0;
        for (size_t k = 0; k < row.size(); ++k) sum += row[k] * hidden[k];
        all.push_back(sum);
      }
    } else {
      const std::vector<double> row = linear("head", hidden, engine);
      all.insert(all.end(), row.begin(), row.end());
    }
  }
  return all;
}

std::vector<int32_t> TinyModel::continuation(std::vector<int32_t> tokens, int64_t newTokens) const {
  const size_t prompt = tokens.size();
  for (int64_t n = 0; n < newTokens; ++n) {
    const std::vector<double> all = logits(tokens);
    const auto last = all.end() - spec_.vocabSize;
    tokens.push_back(static_cast<int32_t>(std::max_element(last, all.end()) - last));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt), tokens.end()};
}

}  // namespace shardspeed::test
