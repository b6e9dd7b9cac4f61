#include "engine.h"
#include "report.h"
#include "runtime.h"

// Schedules and the other settings of emulator.h.

namespace emulator {
namespace {

auto& report = *new std::string;

}  // namespace

void setReport(const std::string& text) {
  // What follows from one device's fault must not hide it.
  report = anyStickyError() ? report + text : text;
}
std::string lastReport() {
  const Lock lock;
  return report;
}

void setSchedule(const Schedule& schedule) {
  const Lock lock;
  engine.schedule = schedule;
}

std::vector<Schedule> schedules(int count) {
  // The first few are the ones that find the most between them.
  const Schedule first[] = {
      {Order::kFifo, Copies::kEager, 1, false}, {Order::kRandom, Copies::kLate, 1, true},
      {Order::kLifo, Copies::kEager, 1, true},  {Order::kRandom, Copies::kRandom, 2, false},
      {Order::kFifo, Copies::kLate, 1, true},   {Order::kRandom, Copies::kEager, 3, true},
      {Order::kLifo, Copies::kLate, 1, false},  {Order::kFifo, Copies::kRandom, 4, false},
      {Order::kLifo, Copies::kRandom, 5, true},
  };
  std::vector<Schedule> result;
  for (int i = 0; i < count; ++i) {
    if (i < static_cast<int>(std::size(first)))
      result.push_back(first[i]);
    else
      result.push_back({Order::kRandom, static_cast<Copies>(i % 3), static_cast<uint64_t>(i), i % 2 == 0});
  }
  return result;
}

std::string describe(const Schedule& schedule) {
  const char* orders[] = {"fifo", "lifo", "random"};
  const char* copies[] = {"eager", "late", "random"};
  return std::string(orders[static_cast<int>(schedule.order)]) + " order, " +
         copies[static_cast<int>(schedule.copies)] + " copies, seed " + std::to_string(schedule.seed) +
         (schedule.prologueFirst ? ", prologue first" : "");
}

void setStepBudget(uint64_t steps) {
  const Lock lock;
  limits.stepBudget = steps;
}
void setIdleLimit(int milliseconds) {
  const Lock lock;
  limits.idle = std::chrono::milliseconds(milliseconds);
}
void setResidentBlocks(int count) {
  const Lock lock;
  limits.residentBlocks = count;
}

}  // namespace emulator
