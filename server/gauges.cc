// SPDX-License-Identifier: Apache-2.0
#include "server/gauges.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "server/node.h"

namespace mneme::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

MetricFamily Family(const char* name, const char* help,
                    MetricType type = MetricType::Gauge) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}

void Add(double value, Labels labels, MetricFamily* family) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (family->type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family->metric.push_back(std::move(metric));
}

// What /proc/self/stat tells, from the third field on: the second, the
// program's name in parentheses, may hold anything.
std::vector<double> StatFields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 4 > line.size()) return {};
  std::istringstream rest(line.substr(name_end + 4));  // ") S "
  std::vector<double> fields;
  for (double field; rest >> field;) fields.push_back(field);
  return fields;
}

// Of the fields above, counted from 0 at proc(5)'s number 4.
constexpr size_t kUserTicks = 10;
constexpr size_t kSystemTicks = 11;
constexpr size_t kStartTicks = 18;
constexpr size_t kVirtualBytes = 19;
constexpr size_t kResidentPages = 20;

double BootTimeSeconds() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("btime ", 0) == 0) return std::stod(line.substr(6));
  }
  return 0;
}

// -1 where it cannot be told.
double OpenFiles() {
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return -1;
  double count = -3;  // ".", ".." and the directory itself
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

}  // namespace

std::vector<MetricFamily> EngineGauges::Collect() const {
  const EngineStats stats = engine_->stats();

  MetricFamily sessions = Family(
      "mneme_sessions",
      "Sessions, by where they are. Without a model: those whose model is not "
      "loaded, and those that are quarantined, which are cold ones too");
  int64_t unloaded = stats.sessions;
  for (const EngineStats::ModelStats& model : stats.models) {
    Add(static_cast<double>(model.hot_sessions),
        {{"model", model.model}, {"state", "hot"}}, &sessions);
    Add(static_cast<double>(model.sessions - model.hot_sessions),
        {{"model", model.model}, {"state", "cold"}}, &sessions);
    unloaded -= model.sessions;
  }
  Add(static_cast<double>(unloaded), {{"model", ""}, {"state", "cold"}},
      &sessions);
  Add(static_cast<double>(stats.quarantined_sessions),
      {{"model", ""}, {"state", "quarantined"}}, &sessions);
  MetricFamily state = Family(
      "mneme_state_bytes",
      "What sessions take: of memory, and of the store with its journals");
  Add(static_cast<double>(stats.session_memory_used_bytes), {{"tier", "ram"}},
      &state);
  Add(static_cast<double>(stats.store_bytes), {{"tier", "store"}}, &state);
  MetricFamily budget = Family("mneme_state_budget_bytes",
                               "What they may take at most; 0: no limit");
  Add(static_cast<double>(stats.session_memory_limit_bytes), {{"tier", "ram"}},
      &budget);
  Add(static_cast<double>(stats.store_limit_bytes), {{"tier", "store"}},
      &budget);
  MetricFamily lag =
      Family("mneme_durable_lag_bytes", "Bytes that wait for the store");
  Add(static_cast<double>(stats.durable_lag_bytes), {}, &lag);
  MetricFamily store =
      Family("mneme_store_bytes", "What the store takes of the disk");
  Add(static_cast<double>(stats.store_bytes), {}, &store);
  MetricFamily writable =
      Family("mneme_store_writable", "Whether the last write got through");
  Add(stats.store_writable ? 1 : 0, {}, &writable);
  MetricFamily queue = Family("mneme_queue_depth",
                              "Sessions with work that no pass has taken yet");
  Add(static_cast<double>(stats.waiting_sessions), {{"op", "all"}}, &queue);
  MetricFamily running =
      Family("mneme_generations_running", "Generations that run");
  Add(static_cast<double>(stats.generations), {}, &running);

  // The bound: of each model its weights, its scratch, and for each hot session
  // state and index; for each open stream its stream; the largest transfer; all
  // index entries; the constants. Hot sessions, streams and entries together
  // never exceed mneme_state_budget_bytes{tier="ram"}.
  MetricFamily terms = Family(
      "mneme_model_bytes",
      "The terms of the memory bound: weights; state of a session, and index: "
      "what a hot one has beside it; scratch of a pass; transfer: most that "
      "states take on their way to the store and from it; stream: most that an "
      "open one adds");
  for (const ModelInfo& model : engine_->ListModels()) {
    if (model.state != ModelState::kLoaded) continue;
    const std::pair<const char*, int64_t> parts[] = {
        {"weights", model.weight_bytes},    {"state", model.state_bytes},
        {"index", model.index_bytes},       {"scratch", model.scratch_bytes},
        {"transfer", model.transfer_bytes}, {"stream", model.stream_bytes}};
    for (const auto& [term, bytes] : parts) {
      Add(static_cast<double>(bytes), {{"model", model.name}, {"term", term}},
          &terms);
    }
  }
  MetricFamily index =
      Family("mneme_index_bytes",
             "A term of the memory bound: what all sessions, hot or cold, take "
             "of memory beside what hot ones do");
  Add(static_cast<double>(stats.index_bytes), {}, &index);
  MetricFamily constants = Family(
      "mneme_constant_bytes",
      "The constants of the memory bound: most that gRPC holds in buffers; "
      "that the store holds in memory; that the program takes by itself");
  const std::pair<const char*, int64_t> fixed[] = {
      {"transport", kTransportBytes},
      {"store", stats.store_memory_bytes},
      {"process", kProcessBytes}};
  for (const auto& [part, bytes] : fixed) {
    Add(static_cast<double>(bytes), {{"part", part}}, &constants);
  }
  return {std::move(sessions), std::move(state),    std::move(budget),
          std::move(lag),      std::move(store),    std::move(writable),
          std::move(queue),    std::move(running),  std::move(terms),
          std::move(index),    std::move(constants)};
}

std::vector<MetricFamily> ProcessGauges::Collect() const {
  std::vector<MetricFamily> families;
  const auto add = [&families](const char* name, const char* help,
                               MetricType type, double value) {
    families.push_back(Family(name, help, type));
    Add(value, {}, &families.back());
  };
  const std::vector<double> fields = StatFields();
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (fields.size() > kResidentPages) {
    add("process_cpu_seconds_total", "User and system time",
        MetricType::Counter,
        (fields[kUserTicks] + fields[kSystemTicks]) / ticks);
    add("process_resident_memory_bytes", "Memory in RAM", MetricType::Gauge,
        fields[kResidentPages] * static_cast<double>(sysconf(_SC_PAGESIZE)));
    add("process_virtual_memory_bytes", "Address space in use",
        MetricType::Gauge, fields[kVirtualBytes]);
    add("process_start_time_seconds", "Start, in seconds since 1970",
        MetricType::Gauge, BootTimeSeconds() + fields[kStartTicks] / ticks);
  }
  if (const double open = OpenFiles(); open >= 0) {
    add("process_open_fds", "Open file descriptors", MetricType::Gauge, open);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add("process_max_fds", "Most file descriptors that may be open",
        MetricType::Gauge, static_cast<double>(limit.rlim_cur));
  }
  return families;
}

}  // namespace mneme::server
