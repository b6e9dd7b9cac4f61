#pragma once

#include <cstdint>
#include <vector>

#include "model/spec.h"

namespace shardspeed {

// Turns a row's logits into the experts that compute it, and their weights. All in fp32, sums in the order of the
// experts' indices; of equal scores the lower index is chosen, as the first of the largest (torch.topk promises no
// order).
class Router {
 public:
  // correction: (experts) or null.
  Router(const ExpertsFeedForward& spec, const float* correction) : spec_(spec), correction_(correction) {}

  // logits (experts) are changed; experts and weights (perToken) are written, the largest first.
  void choose(float* logits, int32_t* experts, float* weights);

 private:
  void chooseNear(const float* logits, int32_t* experts, float* weights);
  void leaveGroups();

  const ExpertsFeedForward& spec_;
  const float* correction_;
  std::vector<float> ranking_;  // what experts are chosen by
  std::vector<float> groups_;   // a score for each group
  std::vector<int32_t> taken_;  // experts of a group, then groups
};

}  // namespace shardspeed
