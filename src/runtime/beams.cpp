#include <algorithm>
#include <string>
#include <utility>

#include "runtime/driver.h"

// What the driver does for beam searches. The beams of a search are sequences of their own. One that is computed is
// settled, until all of them are; then the search says which of them go on, with which tokens. Beams that go on more
// than once are forked.

namespace shardspeed {

// The row of the beam's last token; several at once, in threads.
void Driver::takeBeam(Sequence& sequence, float* row) const {
  BeamGroup& group = *sequence.beams;
  const auto place = std::find(group.running.begin(), group.running.end(), &sequence) - group.running.begin();
  group.rows[static_cast<size_t>(place)] =
      rankCandidates(sequence.sampler, row, head_.columns, group.search.candidates());
  sequence.settled = true;
}

// Whether the id is one of a search, which ends when nobody wants any of its texts.
bool Driver::cancelBeams(int64_t id) {
  for (const auto& group : beamGroups_) {
    const auto found = std::find(group->ids.begin(), group->ids.end(), id);
    if (found == group->ids.end()) continue;
    *found = -1;
    if (!group->isWanted()) endBeams(*group);
    return true;
  }
  return false;
}

// Whether it is the id of a search's sequence. The first of them has that of a request, which may have been cancelled
// before others that the search goes on for.
bool Driver::isBeam(int64_t id) const {
  return std::any_of(beamGroups_.begin(), beamGroups_.end(), [id](const auto& group) {
    return std::any_of(group->running.begin(), group->running.end(),
                       [id](const Sequence* one) { return one->id == id; });
  });
}

// All of the search fails with one of its beams.
void Driver::rejectBeams(const BeamGroup& group, int64_t tokens) {
  for (const int64_t id : group.ids)
    if (id >= 0) emitUnsound(id, tokens);
  for (Sequence* beam : group.running) {
    beam->failed = true;
    finished_.push_back(beam->id);
  }
  std::erase_if(beamGroups_, [&](const std::shared_ptr<BeamGroup>& one) { return one.get() == &group; });
}

// Its sequences leave the scheduler. The caller's reference ends with this.
void Driver::endBeams(const BeamGroup& group) {
  for (const Sequence* beam : group.running) scheduler_.remove(beam->id);
  std::erase_if(beamGroups_, [&](const std::shared_ptr<BeamGroup>& one) { return one.get() == &group; });
}

void Driver::advanceBeams() {
  // A copy: groups that end leave the list.
  for (const auto& group : std::vector(beamGroups_))
    if (group->isSettled()) advance(*group);
}

void Driver::advance(BeamGroup& group) {
  const std::vector<BeamSearch::Next> next = group.search.advance(group.rows);
  if (next.empty()) {
    emitBeams(group);
    return endBeams(group);
  }
  // Each beam goes on with the first of its tokens that were chosen; beams without any leave first, for their pages.
  std::vector<Sequence*> parents = group.running;
  std::vector<bool> goesOn(parents.size());
  for (const BeamSearch::Next& one : next) goesOn[one.parent] = true;
  for (size_t i = 0; i < parents.size(); ++i)
    if (!goesOn[i]) scheduler_.remove(parents[i]->id);
  std::vector<Sequence*> beams;
  for (const auto& [parent, token] : next) {
    Sequence* beam = parents[parent];
    if (!goesOn[parent]) {
      auto fork = std::make_unique<Sequence>(--lastBeam_, *beam);
      beam = fork.get();
      scheduler_.addFork(*parents[parent], std::move(fork));
    }
    goesOn[parent] = false;
    beams.push_back(beam);
  }
  // Behind all forks, which copy what their parents were.
  for (size_t i = 0; i < next.size(); ++i) {
    beams[i]->settled = false;
    beams[i]->tokens.push_back(next[i].token);
    beams[i]->sampler.accept(next[i].token);
  }
  group.running = std::move(beams);
  group.rows.assign(group.running.size(), {});
}

void Driver::emitBeams(const BeamGroup& group) {
  const std::vector<BeamText>& found = group.search.found();
  const SamplingParams& params = group.running.front()->sampler.params();
  for (size_t i = 0; i < group.ids.size(); ++i) {
    const int64_t id = group.ids[i];
    if (id < 0) continue;
    if (i >= found.size()) {
      const Sequence& beam = *group.running.front();
      emitBlocked(id, beam.length(), beam.sampler.state().constraints.problem());
      continue;
    }
    for (const SampledToken& token : found[i].tokens) {
      const bool isFirst = &token == &found[i].tokens.front();
      ++stats_.generatedTokens;
      Event event{EventKind::kToken};
      event.id = id;
      event.hasLogprob = params.logprobs >= 0;
      if (isFirst) event.cachedTokens = group.running.front()->cachedTokens;
      event.sampled = token;
      emit(std::move(event));
    }
    Event done{EventKind::kDone};
    done.id = id;
    done.reason = group.search.isStop(found[i].tokens.back().token) ? FinishReason::kStop : FinishReason::kLength;
    done.score = found[i].score;
    emit(std::move(done));
  }
}

}  // namespace shardspeed
