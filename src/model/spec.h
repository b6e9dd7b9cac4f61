#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "model/attention_spec.h"

namespace shardspeed {

// What a model computes, as a tree of small variants: sizes and choices, plain data made by lib/models and checked by
// binding/spec.cpp. lib/native/spec.ts has the same tree with the same names.

enum class NormKind : uint8_t { kLayer, kRms };
enum class ActivationKind : uint8_t {
  kNone,
  kRelu,
  kReluSquared,
  kGelu,
  kGeluTanh,
  kQuickGelu,
  kSilu,
  kTanh,
  kSigmoid,
  kXielu  // by two learned numbers of each layer (Apertus): XieluNumbers
};

// xIELU(x) = positive x^2 + x / 2 where x > 0, else negative (e^x - 1 - x) + x / 2.
struct XieluNumbers {
  float positive = 0;
  float negative = 0;
};

struct NormSpec {
  NormKind kind = NormKind::kLayer;
  float epsilon = 1e-5f;
  float weightOffset = 0;  // added to the weight that is stored, before it multiplies (Gemma, Nemotron: 1)
};

// Another set of frequencies, for sequences of more than originalPositions tokens, from their first token on (Phi-3's
// longrope).
struct LongRotary {
  int64_t originalPositions = 0;
  std::vector<float> inverseFrequencies;
  float amplitude = 1.0f;
};

// The frequencies of rotary position embedding (Su et al. 2021).
struct RotarySpec {
  std::vector<float> inverseFrequencies;  // (turned elements / 2)
  float amplitude = 1.0f;                 // multiplies cos and sin (YaRN's attention factor)
  // Dynamic NTK: past originalPositions the base grows with the length of the sequence; 0 = the frequencies are fixed.
  int64_t dynamicOriginalPositions = 0;
  double dynamicBase = 0;
  double dynamicFactor = 0;
  std::optional<LongRotary> longer;
};

// The frequencies of a sequence of totalLength > dynamicOriginalPositions tokens (transformers, modeling_rope_utils.py,
// _compute_dynamic_ntk_parameters).
std::vector<float> dynamicInverseFrequencies(const RotarySpec& spec, int64_t totalLength);

// A table of positions that is added to the token embeddings, of maxPositions + offset rows.
struct LearnedPositions {
  int64_t offset = 0;  // row of position 0
};
// The same, computed: sines, then cosines, of (position + offset) / 10000^(j / (hiddenSize / 2 - 1)) (XGLM, M2M100).
struct SinusoidalPositions {
  int64_t offset = 0;
};
using EmbeddingPositions = std::variant<LearnedPositions, SinusoidalPositions>;

int64_t positionOffset(const EmbeddingPositions& positions);

struct EmbeddingSpec {
  int64_t width = 0;  // of a row; another than hiddenSize means a projection behind it and one before the head
  float scale = 1;    // multiplies tokens' rows, before positions are added (Gemma, Granite)
  std::optional<EmbeddingPositions> positions;
  int64_t tokenTypes = 0;        // rows of a learned table of which each token's is added (BERT); 0 = none
  std::optional<NormSpec> norm;  // behind it (BLOOM)
  bool projectsLast = false;     // behind positions, token types and norm, which are of its width then (ELECTRA)
};

// Norms of queries and keys.
struct QkNormSpec {
  QkNormSpan span = QkNormSpan::kHead;
  NormSpec norm;
  bool headWeights = false;     // of a head's span: each head has weights of its own (Cohere, StableLM)
  bool afterPositions = false;  // behind the turning of rotary positions (HunYuan, Llama 4), else ahead of it
};

// Queries, keys and values from rows of lower rank (DeepSeek-V2): keys and values of all heads from one row of `rank`
// elements, and the first positionDims elements of each key, which alone turn with positions, from a row that all heads
// have in common. Values have valueDim elements.
struct LatentAttention {
  int64_t queryRank = 0;  // 0 = queries come from the residual stream
  int64_t rank = 0;
  int64_t positionDims = 0;
  int64_t valueDim = 0;
  NormSpec norm;  // of the rows of lower rank
};

struct AttentionSpec {
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  float scale = 1;  // multiplies q k^T
  AttentionMask mask = CausalMask{};
  AttentionPositions positions = NoPositions{};
  float softCap = 0;  // score = softCap tanh(score / softCap); 0 = off
  float clamp = 0;    // q, k and v are limited to [-clamp, clamp], behind norms ahead of the positions; 0 = off
  std::optional<QkNormSpec> qkNorm;
  bool sinks = false;  // each head has one logit more, which is learned and whose value is zero (GPT-OSS)
  std::optional<QueryTemperature> temperature;
  std::optional<LatentAttention> latent;
};

// down(activation(up(x))); gated: down(activation(gate(x)) * up(x)).
struct DenseFeedForward {
  int64_t size = 0;
  ActivationKind activation = ActivationKind::kRelu;
  bool gated = false;
};

// How a router turns its logits, one for each expert, into scores, and chooses experts by these. Where scores are equal
// the lower index counts as the larger.
enum class RouterScoring : uint8_t {
  kSoftmax,      // over all experts; the largest are chosen
  kTopkSoftmax,  // the largest logits are chosen, and the softmax is over those (GPT-OSS, GraniteMoE)
  kSigmoid,      // of each logit; the largest are chosen (DeepSeek-V3, Llama 4)
  // The largest logits one after the other; the weight of each by a softmax over those that are left and near to it
  // (Phi-3.5-MoE).
  kSparseMixer
};

// Experts are chosen from `chosen` of `count` groups: those whose `best` largest scores have the largest sums.
struct RouterGroups {
  int64_t count = 1;
  int64_t chosen = 1;
  int64_t best = 1;
};

struct RouterSpec {
  RouterScoring scoring = RouterScoring::kSoftmax;
  bool normalise = false;   // the weights of the chosen experts are divided by their sum
  float scale = 1;          // multiplies the weights, behind that
  bool correction = false;  // numbers are added to scores where experts are chosen, not where they are weighted
  std::optional<RouterGroups> groups;
  float jitter = 0;  // sparsemixer takes a logit for near that is no further from the largest than twice this share
  bool weighsInput = false;  // the weight multiplies what an expert reads, and not what it computes (Llama 4)
};

// With g = min(gate, limit), u = up within [-limit, limit]: g sigmoid(alpha g) (u + 1) (GPT-OSS).
struct ClampedGate {
  float limit = 0;
  float alpha = 1;
};

// An expert that computes every token. Gated: what its downward product reads is multiplied by the sigmoid of a number
// of its own for each token (Qwen2-MoE).
struct SharedExpert {
  int64_t size = 0;
  bool gated = false;
};

// A mixture of experts: each token is computed by perToken of count dense networks, which a router chooses, and by the
// shared one; what they compute is added up by the router's weights.
struct ExpertsFeedForward {
  int64_t count = 0;
  int64_t perToken = 0;
  int64_t size = 0;  // of one expert
  ActivationKind activation = ActivationKind::kSilu;
  bool gated = false;
  std::optional<ClampedGate> clamped;  // in place of activation(gate) * up
  RouterSpec router;
  std::optional<SharedExpert> shared;
};
using FeedForwardSpec = std::variant<DenseFeedForward, ExpertsFeedForward>;

// How a layer adds what its two parts, attention and feed-forward, compute, to its input x. Each has a norm of its own,
// norms.input says whether ahead of it.
enum class Residual : uint8_t {
  kSequential,          // x += attention(norm x), then x += feedForward(norm x)
  kParallel,            // x += attention(norm x) + feedForward(other norm x)
  kSharedNormParallel,  // the same with one norm for both
  kPostNorm             // x = norm(x + attention(x)), then x = norm(x + feedForward(x))
};

struct NormPlacementSpec {
  NormSpec norm;
  bool input = true;            // ahead of each part
  bool output = false;          // of what a part computes, before it is added (OLMo-2; Gemma-2 has both)
  bool skipsAttention = false;  // attention reads its input as it is, although input is set (ModernBERT's first layer)
};

struct LayerSpec {
  AttentionSpec attention;
  FeedForwardSpec feedForward;
  NormPlacementSpec norms;
  Residual residual = Residual::kSequential;
  float residualScale = 1;  // multiplies what a part computes, behind its output norm (Granite)
};

// A dense layer ahead of a head: norm(activation(W x + b)).
struct TransformSpec {
  ActivationKind activation = ActivationKind::kNone;
  std::optional<NormSpec> norm;
};

// Scores of all tokens of the vocabulary.
struct LogitsOutput {
  bool tied = false;                         // the head is the token embedding
  std::optional<NormSpec> norm;              // ahead of the head
  float scale = 1;                           // multiplies logits, behind the head's bias
  float softCap = 0;                         // logit = softCap tanh(logit / softCap); 0 = off
  std::optional<TransformSpec> transform{};  // to the width of the embedding (masked language models)
};
// Hidden states alone. What a pooler makes of the first token's is a head of its own.
struct HiddenOutput {
  std::optional<NormSpec> norm;
  std::optional<TransformSpec> pooler;
};
enum class PickedRow : uint8_t { kFirst, kLast, kMean };
// Scores of classes for the whole sequence, of one of its tokens or of the mean of all.
struct ClassesOutput {
  PickedRow pick = PickedRow::kFirst;
  int64_t count = 0;
  std::optional<NormSpec> norm;
  std::optional<TransformSpec> transform;
};
// Scores of classes for each token.
struct TokenClassesOutput {
  int64_t count = 0;
  std::optional<NormSpec> norm;
  std::optional<TransformSpec> transform;
};
using OutputSpec = std::variant<LogitsOutput, HiddenOutput, ClassesOutput, TokenClassesOutput>;

// The head of a model, whatever the kind of its output.
struct HeadSpec {
  int64_t columns = 0;                       // of a row of output; 0 = there is none but the hidden states
  bool hasMatrix = false;                    // and not only a transform
  bool isTied = false;                       // the matrix is the token embedding
  bool isVocabulary = false;                 // its rows are divided among ranks
  const NormSpec* norm = nullptr;            // of the hidden states, null = none
  const TransformSpec* transform = nullptr;  // null = none
  int64_t width = 0;                         // of what the matrix reads
};

// Learned rows of distances, of the model's width. The distance key position - query position has row rowOf[distance +
// rowOf.size() / 2]; what is farther away than rowOf reaches has the row of its end.
struct RelativeTable {
  int64_t rows = 0;
  std::vector<int32_t> rowOf;    // an odd number
  std::optional<NormSpec> norm;  // of each row

  int32_t row(int64_t distance) const {
    const int64_t farthest = static_cast<int64_t>(rowOf.size()) / 2;
    return rowOf[static_cast<size_t>(std::clamp(distance, -farthest, farthest) + farthest)];
  }
};

struct ModelSpec {
  std::string family;
  int64_t vocabSize = 0;
  int64_t hiddenSize = 0;    // width of the residual stream
  int64_t maxPositions = 0;  // longest sequence, prompt and new tokens
  EmbeddingSpec embedding;
  std::vector<LayerSpec> kinds;
  std::vector<int32_t> layers;           // layers[i] = index of its kind
  std::vector<int32_t> weightLayers;     // the layer whose weights layer i has, i or an earlier one; empty = its own
  std::vector<RotarySpec> rotaryTables;  // RotaryPositions::table is an index into these
  std::optional<RelativeTable> relativeTable;  // of layers with RelativePositions
  OutputSpec output;

  int64_t layerCount() const { return static_cast<int64_t>(layers.size()); }
  size_t kindOf(int64_t layer) const { return static_cast<size_t>(layers[static_cast<size_t>(layer)]); }
  const LayerSpec& layer(int64_t index) const { return kinds[kindOf(index)]; }
  int64_t weightLayer(int64_t index) const {
    return weightLayers.empty() ? index : weightLayers[static_cast<size_t>(index)];
  }
  bool projectsEmbedding() const { return embedding.width != hiddenSize; }
  // Width of the rows that positions, token types and the embedding's norm apply to.
  int64_t embeddedWidth() const { return embedding.projectsLast ? embedding.width : hiddenSize; }
  bool projectsHead() const;
  // Only for models that make tokens.
  const LogitsOutput& logits() const { return std::get<LogitsOutput>(output); }
  HeadSpec head() const;
};

// The layer kind whose learned scores of distances all kinds with such positions share; null = there are none.
const LayerSpec* bucketKind(const ModelSpec& spec);
// More than any distance in a sequence, with the rest of a page.
int64_t distanceReach(const ModelSpec& spec);

// Whether some layer's queries see later tokens: sequences are computed in one step each then, and nothing is kept of
// their keys and values.
bool seesLater(const ModelSpec& spec);
// Whether it has logits of a vocabulary, one token behind another.
bool makesTokens(const ModelSpec& spec);

// Past so many tokens the rotary frequencies depend on a sequence's length, and what was computed for a shorter one is
// of no use; 0 = never.
int64_t dynamicOriginalPositions(const ModelSpec& spec);
// The same of frequencies for long sequences, of all tables that have them.
std::vector<int64_t> longOriginalPositions(const ModelSpec& spec);

}  // namespace shardspeed
