#include "runtime/unsupported.h"

#include "runtime/device.h"
#include "runtime/layers/attention.h"

namespace shardspeed {

namespace {

using Found = std::optional<std::string>;

bool isAlike(const AttentionSpec& one, const AttentionSpec& other) {
  return one.heads == other.heads && one.kvHeads == other.kvHeads && one.headDim == other.headDim;
}

// What the layer loop does not know, whatever the backend.
Found unsupportedLayer(const LayerSpec& layer, const LayerSpec& first) {
  const bool isPostNorm = layer.residual == Residual::kPostNorm;
  if (!isAlike(layer.attention, first.attention)) return "layers whose heads differ in number or width";
  if (layer.attention.qkNorm) return "norms of queries and keys";
  if (layer.attention.sinks) return "attention sinks";
  if (layer.attention.temperature) return "a temperature of queries";
  if (layer.norms.norm.weightOffset != 0) return "an offset of norm weights";
  const auto* dense = std::get_if<DenseFeedForward>(&layer.feedForward);
  if (dense && dense->activation == ActivationKind::kXielu) return "xIELU";
  if (layer.norms.output) return "norms of what a part of a layer computes";
  if (layer.norms.input == isPostNorm)
    return isPostNorm ? "norms both ahead of a part and behind its sum" : "parts without a norm ahead of them";
  if (layer.residualScale != 1) return "a scale of what a part of a layer computes";
  return {};
}

Found unsupportedByEngine(const ModelSpec& spec) {
  for (const LayerSpec& kind : spec.kinds)
    if (const Found found = unsupportedLayer(kind, spec.kinds[0])) return found;
  if (spec.embedding.scale != 1) return "a scale of embeddings";
  const auto& positions = spec.embedding.positions;
  if (positions && std::holds_alternative<SinusoidalPositions>(*positions)) return "sinusoidal positions";
  for (const RotarySpec& table : spec.rotaryTables)
    if (table.longer) return "other rotary frequencies for long sequences";
  if (spec.logits().scale != 1) return "a scale of logits";
  if (spec.logits().softCap != 0) return "a soft cap of logits";
  return {};
}

}  // namespace

Found unsupported(const ModelSpec& spec, int ranks, const std::string& device) {
  if (const Found found = unsupportedByEngine(spec)) return "The engine does not compute " + *found + ".";
  const Shard shard = shardOf(spec, 0, ranks);
  const Device opened = deviceOf(device);
  for (int64_t layer = 0; layer < spec.layerCount(); ++layer)
    if (const Found found = opened.kind.unsupportedAttention(attentionCall(spec, shard, layer), ranks))
      return "The backend of " + device + " does not compute " + *found + ".";
  return {};
}

Found unsupported(const EngineOptions& options) {
  for (const std::string& device : options.devices)
    if (const Found found = unsupported(options.spec, options.tpSize, device)) return found;
  return {};
}

}  // namespace shardspeed
