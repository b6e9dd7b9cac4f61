#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shardspeed {

enum class NormKind : uint8_t { kLayer, kRms };
enum class NormPlacement : uint8_t { kPre, kPost };
enum class ActivationKind : uint8_t {
  kNone,
  kRelu,
  kReluSquared,
  kGelu,
  kGeluTanh,
  kQuickGelu,
  kSilu,
  kTanh,
  kSigmoid
};
enum class PositionKind : uint8_t { kNone, kLearned, kRotary };

// Rotary position embedding (Su et al. 2021), the rotate-half layout of Llama: element j turns with element j +
// rotaryDim / 2.
struct RotarySpec {
  std::vector<float> inverseFrequencies;  // (rotaryDim / 2)
  float amplitude = 1.0f;                 // multiplies cos and sin (YaRN's attention factor)
  // Dynamic NTK: past originalPositions the base grows with the length of the sequence; 0 = the frequencies are fixed.
  int64_t dynamicOriginalPositions = 0;
  double dynamicBase = 0;
  double dynamicFactor = 0;
};

// The frequencies of a sequence of totalLength > dynamicOriginalPositions tokens (transformers, modeling_rope_utils.py,
// _compute_dynamic_ntk_parameters).
std::vector<float> dynamicInverseFrequencies(const RotarySpec& spec, int64_t totalLength);

// What a model computes: sizes and choices, plain data made by lib/models and trusted here.
struct ModelSpec {
  std::string family;
  int64_t layers = 0;
  int64_t vocabSize = 0;
  int64_t hiddenSize = 0;  // width of the residual stream
  int64_t embeddingSize =
      0;  // width of a token embedding row; another than hiddenSize means project_in and project_out
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  int64_t ffnSize = 0;
  int64_t maxPositions = 0;  // longest sequence, prompt and new tokens
  bool gatedFfn = false;     // down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))
  ActivationKind activation = ActivationKind::kRelu;
  NormKind norm = NormKind::kLayer;
  NormPlacement normPlacement = NormPlacement::kPre;
  float normEpsilon = 1e-5f;
  bool finalNorm = true;
  bool tiedHead = false;  // the head is the token embedding
  PositionKind positions = PositionKind::kNone;
  int64_t positionOffset = 0;  // row of the learned table that holds position 0
  RotarySpec rotary;
  std::vector<float> attentionScales;  // (layers), multiplies q k^T
};

}  // namespace shardspeed
