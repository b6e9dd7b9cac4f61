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
  const auto* dense = std::get_if<DenseFeedForward>(&layer.feedForward);
  if (dense && dense->gated && dense->activation == ActivationKind::kXielu) return "xIELU with a gate";
  const auto* experts = std::get_if<ExpertsFeedForward>(&layer.feedForward);
  if (experts && experts->activation == ActivationKind::kXielu) return "xIELU in experts";
  if (isPostNorm && layer.norms.input) return "norms both ahead of a part and behind its sum";
  if (layer.norms.skipsAttention && (isPostNorm || layer.residual == Residual::kSharedNormParallel))
    return "attention without the norm that its layer has behind sums or for both parts";
  if (isPostNorm && layer.norms.output) return "norms both of what a part computes and behind its sum";
  return {};
}

Found unsupportedByEngine(const ModelSpec& spec) {
  for (const LayerSpec& kind : spec.kinds)
    if (const Found found = unsupportedLayer(kind, spec.kinds[0])) return found;
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
