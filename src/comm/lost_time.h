#pragma once

#include "comm/socket.h"

namespace shardspeed {

// Time in which a thread that should come by once a round did not run: its process was stopped, or starved. Nobody can
// be blamed for what he did not do, or was not seen to do, in that time.
// It is measured from one visit to the next, and not around the places where the thread sleeps: a process may be
// stopped anywhere.
class LostTime {
 public:
  // begun: from when on it should come by. round: the most that it sleeps between two visits.
  LostTime(Clock::time_point begun, Clock::duration round) : seen_(begun), round_(round) {}

  // The time lost since the last visit; zero where the thread was less than a round late. A round is left out of it, so
  // that time passes for the others though this thread be late each time.
  Clock::duration until(Clock::time_point now) {
    const Clock::duration late = now - seen_ - round_;
    seen_ = now;
    return late > round_ ? late : Clock::duration::zero();
  }

 private:
  Clock::time_point seen_;
  const Clock::duration round_;
};

}  // namespace shardspeed
