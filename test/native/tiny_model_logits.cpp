#include <algorithm>
#include <cmath>

#include "check.h"
#include "expert_reference.h"
#include "reference_math.h"
#include "reference_sums.h"
#include "stored.h"
#include "tiny_model.h"

namespace shardspeed::test {

std::vector<double> TinyModel::linear(const std::string& role, const std::vector<double>& x, DType engine) const {
  const Tensor& weight = tensors_.at(role + ".weight");
  const auto bias = tensors_.find(role + ".bias");
  REQUIRE(x.size() == static_cast<size_t>(weight.cols));
  std::vector<double> out(static_cast<size_t>(weight.rows));
  for (size_t r = 0; r < out.size(); ++r) {
    const double first = bias == tensors_.end() ? 0 : static_cast<double>(bias->second.values[r]);
    out[r] = sumOfProducts(first, x.data(), &weight.values.at(r * x.size()), x.size(), engine);
  }
  return out;
}

std::vector<double> TinyModel::norm(const std::string& role, const NormSpec& spec, const std::vector<double>& x) const {
  const auto doubles = [&](const std::string& name) {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::vector<double>{}
                                   : std::vector<double>(found->second.values.begin(), found->second.values.end());
  };
  std::vector<double> weight = doubles(role + ".weight");
  const std::vector<double> bias = doubles(role + ".bias");
  for (double& value : weight) value += static_cast<double>(spec.weightOffset);
  return normOf(spec.kind, static_cast<double>(spec.epsilon), weight.empty() ? nullptr : weight.data(),
                bias.empty() ? nullptr : bias.data(), x);
}

static void addTo(std::vector<double>& target, const std::vector<double>& values) {
  for (size_t i = 0; i < target.size(); ++i) target[i] += values[i];
}

// In fp32 whatever the engine's dtype.
static std::vector<double> sinusoid(int64_t row, int64_t width) {
  const int64_t half = width / 2;
  std::vector<double> values(static_cast<size_t>(width));
  for (int64_t j = 0; j < half; ++j) {
    // Rounded as models were trained with.
    const auto exponent =
        static_cast<float>(j) * static_cast<float>(-std::log(10000.0) / static_cast<double>(half - 1));
    const auto frequency = static_cast<float>(std::exp(static_cast<double>(exponent)));
    const auto angle = static_cast<double>(static_cast<float>(row) * frequency);
    values[static_cast<size_t>(j)] = static_cast<double>(static_cast<float>(std::sin(angle)));
    values[static_cast<size_t>(half + j)] = static_cast<double>(static_cast<float>(std::cos(angle)));
  }
  return values;
}

// The first key that a query sees.
static size_t firstVisible(const AttentionMask& mask, int64_t position) {
  int64_t first = 0;
  if (const auto* window = std::get_if<WindowMask>(&mask)) first = std::max<int64_t>(0, position - window->size + 1);
  if (const auto* chunk = std::get_if<ChunkMask>(&mask)) first = position / chunk->size * chunk->size;
  return static_cast<size_t>(first);
}

// Queries or keys of one token by the norm that a layer has for them.
void TinyModel::normHeads(const std::string& role, const QkNormSpec& spec, int64_t dim, std::vector<double>& x) const {
  const size_t span = spec.span == QkNormSpan::kRow ? x.size() : static_cast<size_t>(dim);
  const auto at = [&](const std::string& name, size_t index) -> const float* {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return nullptr;
    return found->second.values.data() + (spec.headWeights ? index : 0);
  };
  for (size_t first = 0; first < x.size(); first += span) {
    std::vector<double> weight(span, 1), bias(span, 0);
    const float* weights = at(role + ".weight", first);
    const float* biases = at(role + ".bias", first);
    for (size_t k = 0; k < span; ++k) {
      if (weights) weight[k] = static_cast<double>(weights[k]) + static_cast<double>(spec.norm.weightOffset);
      if (biases) bias[k] = static_cast<double>(biases[k]);
    }
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<double> part(begin, begin + static_cast<std::ptrdiff_t>(span));
    const std::vector<double> normed =
        normOf(spec.norm.kind, static_cast<double>(spec.norm.epsilon), weight.data(), bias.data(), part);
    std::copy(normed.begin(), normed.end(), begin);
  }
}

// All heads of queries, keys or values of latent attention, each with what turns first, and filled up with zeros.
std::vector<double> TinyModel::latentHeads(const std::string& stem, const std::string& name, const AttentionSpec& spec,
                                           const std::vector<double>& x, DType engine) const {
  const LatentAttention& latent = *spec.latent;
  const auto dim = static_cast<size_t>(spec.headDim), turned = static_cast<size_t>(latent.positionDims);
  const auto ranked = [&](const std::string& role) {
    return norm(stem + role + "_norm", latent.norm, linear(stem + role, x, engine));
  };
  const bool isQuery = name == "q";
  const std::vector<double> row =
      linear(stem + name, isQuery ? (latent.queryRank > 0 ? ranked("q_latent") : x) : ranked("kv_latent"), engine);
  const std::vector<double> shared = linear(stem + "k_shared", x, engine);
  std::vector<double> heads;
  const size_t width = row.size() / static_cast<size_t>(spec.heads);
  for (size_t head = 0; head < row.size(); head += width) {
    if (name == "k") heads.insert(heads.end(), shared.begin(), shared.end());
    for (size_t d = 0; d < width; ++d) heads.push_back(row[head + (isQuery ? (d + dim - turned) % dim : d)]);
    heads.resize((head / width + 1) * dim);
  }
  return heads;
}

std::vector<double> TinyModel::relativeTerms(const std::string& layer, const AttentionSpec& spec, int64_t head,
                                             int64_t firstDistance, const double* query,
                                             const std::vector<const double*>& keys, DType engine) const {
  const auto* positions = std::get_if<RelativePositions>(&spec.positions);
  if (!positions) return {};
  const RelativeTable& table = *spec_.relativeTable;
  const std::vector<float>& stored = values("positions.relative.weight");
  std::vector<double> terms;
  for (const double* key : keys) {
    const int64_t distance = firstDistance + static_cast<int64_t>(terms.size());
    const auto farthest = static_cast<int64_t>(table.rowOf.size() / 2);
    const int64_t at = std::min(std::max(distance + farthest, int64_t{0}), 2 * farthest);
    std::vector<double> row;
    for (int64_t k = 0; k < spec_.hiddenSize; ++k)
      row.push_back(static_cast<double>(
          roundedTo(engine, stored[static_cast<size_t>(table.rowOf[static_cast<size_t>(at)] * spec_.hiddenSize + k)])));
    if (table.norm) row = norm("positions.relative_norm", *table.norm, row);
    double sum = 0;
    const std::string suffix = positions->separate ? "_relative" : "";
    std::vector<double> asQuery, asKey;
    if (positions->keys) asQuery = linear(layer + "q" + suffix, row, engine);
    if (positions->queries) asKey = linear(layer + "k" + suffix, row, engine);
    for (int64_t d = 0; d < spec.headDim; ++d) {
      const auto own = static_cast<size_t>(head * spec.headDim + d);
      sum += (positions->queries ? query[d] * asKey[own] : 0) + (positions->keys ? key[d] * asQuery[own] : 0);
    }
    terms.push_back(static_cast<double>(spec.scale) * sum);
  }
  return terms;
}

std::vector<double> TinyModel::attend(int64_t index, int64_t position, int64_t totalLength,
                                      const std::vector<double>& x, std::vector<std::vector<double>>& keys,
                                      std::vector<std::vector<double>>& values, DType engine) const {
  const std::string layer = "layers." + std::to_string(index) + ".attn.";
  const AttentionSpec& attention = spec_.layer(index).attention;
  const auto dim = static_cast<size_t>(attention.headDim);
  const auto limited = [&](std::vector<double> row) {
    const auto clamp = static_cast<double>(attention.clamp);
    for (double& value : row)
      if (clamp > 0) value = std::clamp(value, -clamp, clamp);
    return row;
  };
  const auto prepared = [&](const std::string& name) {
    std::vector<double> row =
        attention.latent ? latentHeads(layer, name, attention, x, engine) : linear(layer + name, x, engine);
    const auto& norm = attention.qkNorm;
    if (norm && !norm->afterPositions) normHeads(layer + name + "_norm", *norm, attention.headDim, row);
    row = limited(std::move(row));
    if (const auto* rotary = std::get_if<RotaryPositions>(&attention.positions))
      for (size_t at = 0; at < row.size(); at += dim)
        rotate(spec_.rotaryTables[static_cast<size_t>(rotary->table)], position, totalLength, &row[at], rotary->layout);
    if (norm && norm->afterPositions) normHeads(layer + name + "_norm", *norm, attention.headDim, row);
    return row;
  };
  std::vector<double> query = prepared("q");
  if (const auto& heat = attention.temperature)
    for (double& value : query)
      value *=
          1 + static_cast<double>(heat->scale) * std::log(1 + std::floor(static_cast<double>(position + heat->offset) /
                                                                         static_cast<double>(heat->period)));
  keys.push_back(prepared("k"));
  values.push_back(attention.latent ? latentHeads(layer, "v", attention, x, engine)
                                    : limited(linear(layer + "v", x, engine)));
  std::vector<double> mixed;
  const size_t first = firstVisible(attention.mask, position);
  for (int64_t head = 0; head < attention.heads; ++head) {
    const size_t kvAt = static_cast<size_t>(head / (attention.heads / attention.kvHeads)) * dim;
    std::vector<const double*> headKeys, headValues;
    for (size_t t = first; t < keys.size(); ++t) {
      headKeys.push_back(&keys[t][kvAt]);
      headValues.push_back(&values[t][kvAt]);
    }
    ScoreTerms terms;
    terms.softCap = static_cast<double>(attention.softCap);
    terms.firstDistance = static_cast<double>(first) - static_cast<double>(position);
    if (const auto* alibi = std::get_if<AlibiPositions>(&attention.positions))
      terms.slope = static_cast<double>(alibi->slopes[static_cast<size_t>(head)]);
    if (attention.sinks)
      terms.sink = static_cast<double>(tensors_.at(layer + "sinks.weight").values[static_cast<size_t>(head)]);
    if (spec_.relativeTable)
      terms.others = relativeTerms(layer, attention, head, static_cast<int64_t>(first) - position,
                                   &query[static_cast<size_t>(head) * dim], headKeys, engine);
    const std::vector<double> result = attentionOf(&query[static_cast<size_t>(head) * dim], headKeys, headValues, dim,
                                                   static_cast<double>(attention.scale), terms);
    const int64_t width = attention.latent ? attention.latent->valueDim : attention.headDim;
    mixed.insert(mixed.end(), result.begin(), result.begin() + width);
  }
  return linear(layer + "o", mixed, engine);
}

std::vector<double> TinyModel::network(const std::string& stem, const std::vector<double>& x, ActivationKind activation,
                                       bool gated, const std::optional<ClampedGate>& clamped, DType engine) const {
  std::vector<double> inner = linear(stem + (gated ? "gate" : "up"), x, engine);
  const std::vector<double> up = gated ? linear(stem + "up", x, engine) : std::vector<double>{};
  XieluNumbers xielu;
  if (activation == ActivationKind::kXielu) {
    const std::vector<float>& stored = values(stem + "xielu.weight");
    xielu = {std::log1p(std::exp(stored[0])), 0.5f + std::log1p(std::exp(stored[1]))};
  }
  for (size_t i = 0; i < inner.size(); ++i) {
    if (clamped)
      inner[i] = clampedGate(*clamped, inner[i], up[i]);
    else
      inner[i] = activationOf(activation, inner[i], xielu) * (gated ? up[i] : 1);
  }
  return linear(stem + "down", inner, engine);
}

std::vector<double> TinyModel::mixture(const std::string& layer, const ExpertsFeedForward& spec,
                                       const std::vector<double>& x, DType engine) const {
  // The router is kept in fp32 whatever the engine's dtype.
  const std::vector<double> logits = linear(layer + "mlp.router", x, DType::kF32);
  std::vector<double> correction, out(x.size());
  if (spec.router.correction) {
    const std::vector<float>& stored = tensors_.at(layer + "mlp.router.correction.weight").values;
    correction.assign(stored.begin(), stored.end());
  }
  for (const auto& [expert, weight] : routed(spec, logits, correction)) {
    std::vector<double> read = x;
    if (spec.router.weighsInput)
      for (double& value : read) value *= weight;
    std::vector<double> one = network(layer + "mlp.experts." + std::to_string(expert) + ".", read, spec.activation,
                                      spec.gated, spec.clamped, engine);
    if (!spec.router.weighsInput)
      for (double& value : one) value *= weight;
    addTo(out, one);
  }
  if (!spec.shared) return out;
  std::vector<double> one = network(layer + "mlp.shared.", x, spec.activation, spec.gated, std::nullopt, engine);
  if (spec.shared->gated) {
    const double gate = linear(layer + "mlp.shared.router", x, DType::kF32)[0];
    // The gate multiplies what the shared expert's last product reads, but for its bias.
    const std::vector<double> zero(static_cast<size_t>(spec.shared->size));
    const std::vector<double> bias = linear(layer + "mlp.shared.down", zero, engine);
    for (size_t i = 0; i < one.size(); ++i) one[i] = (one[i] - bias[i]) / (1 + std::exp(-gate)) + bias[i];
  }
  addTo(out, one);
  return out;
}

std::vector<double> TinyModel::feedForward(int64_t index, const std::vector<double>& x, DType engine) const {
  const std::string layer = "layers." + std::to_string(index) + ".";
  const FeedForwardSpec& spec = spec_.layer(index).feedForward;
  if (const auto* experts = std::get_if<ExpertsFeedForward>(&spec)) return mixture(layer, *experts, x, engine);
  const auto& dense = std::get<DenseFeedForward>(spec);
  return network(layer + "mlp.", x, dense.activation, dense.gated, std::nullopt, engine);
}

void TinyModel::runLayer(int64_t index, std::vector<double>& hidden, const Part& attention,
                         const Part& feedForward) const {
  const LayerSpec& layer = spec_.layer(index);
  const std::string stem = "layers." + std::to_string(index) + ".";
  const auto normOfHidden = [&](const char* role) { return norm(stem + role, layer.norms.norm, hidden); };
  const auto ahead = [&](const char* role) { return layer.norms.input ? normOfHidden(role) : hidden; };
  const auto outputOf = [&](const char* role, std::vector<double> values) {
    if (layer.norms.output) values = norm(stem + role, layer.norms.norm, values);
    for (double& value : values) value *= static_cast<double>(layer.residualScale);
    return values;
  };
  const auto attended = [&](const std::vector<double>& x) { return outputOf("attn.out_norm", attention(x)); };
  const auto fed = [&](const std::vector<double>& x) { return outputOf("mlp.out_norm", feedForward(x)); };
  switch (layer.residual) {
    case Residual::kSequential:
      addTo(hidden, attended(ahead("attn.norm")));
      addTo(hidden, fed(ahead("mlp.norm")));
      break;
    case Residual::kPostNorm:
      addTo(hidden, attended(hidden));
      hidden = normOfHidden("attn.norm");
      addTo(hidden, fed(hidden));
      hidden = normOfHidden("mlp.norm");
      break;
    case Residual::kParallel:
    case Residual::kSharedNormParallel: {
      const bool shared = layer.residual == Residual::kSharedNormParallel;
      const std::vector<double> second = fed(ahead(shared ? "attn.norm" : "mlp.norm"));
      addTo(hidden, attended(ahead("attn.norm")));
      addTo(hidden, second);
      break;
    }
  }
}

std::vector<double> TinyModel::logits(const std::vector<int32_t>& tokens, DType engine) const {
  const auto layers = static_cast<size_t>(spec_.layerCount());
  std::vector<std::vector<std::vector<double>>> keys(layers), values = keys;
  const auto rowOf = [&](const std::string& role, int64_t row) {
    const Tensor& table = tensors_.at(role);
    std::vector<double> out;
    for (int64_t k = 0; k < table.cols; ++k)
      out.push_back(static_cast<double>(roundedTo(engine, table.values[static_cast<size_t>(row * table.cols + k)])));
    return out;
  };
  std::vector<double> all;
  for (size_t at = 0; at < tokens.size(); ++at) {
    const auto position = static_cast<int64_t>(at), length = static_cast<int64_t>(tokens.size());
    std::vector<double> hidden = rowOf("embed.tokens.weight", tokens[at]);
    for (double& value : hidden) value *= static_cast<double>(spec_.embedding.scale);
    if (spec_.projectsEmbedding()) hidden = linear("embed.projection", hidden, engine);
    if (const auto& positions = spec_.embedding.positions) {
      const int64_t row = position + positionOffset(*positions);
      const bool learned = std::holds_alternative<LearnedPositions>(*positions);
      addTo(hidden, learned ? rowOf("embed.positions.weight", row) : sinusoid(row, spec_.hiddenSize));
    }
    if (spec_.embedding.norm) hidden = norm("embed.norm", *spec_.embedding.norm, hidden);
    for (size_t n = 0; n < layers; ++n) {
      const auto index = static_cast<int64_t>(n);
      runLayer(
          index, hidden,
          [&](const std::vector<double>& x) { return attend(index, position, length, x, keys[n], values[n], engine); },
          [&](const std::vector<double>& x) { return feedForward(index, x, engine); });
    }
    if (spec_.logits().norm) hidden = norm("norm", *spec_.logits().norm, hidden);
    if (spec_.projectsEmbedding()) hidden = linear("head.projection", hidden, engine);
    if (spec_.logits().tied) {
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
  const auto cap = static_cast<double>(spec_.logits().softCap);
  for (double& logit : all) {
    logit *= static_cast<double>(spec_.logits().scale);
    if (cap > 0) logit = cap * std::tanh(logit / cap);
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
