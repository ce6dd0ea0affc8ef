// SPDX-License-Identifier: Apache-2.0
//
// mnemed: reads the command line, puts the parts together, and waits for a
// signal.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/build_info.h"
#include "server/config.h"
#include "server/gauges.h"
#include "server/grpc_server.h"
#include "server/metrics.h"
#include "server/metrics_server.h"
#include "server/notify.h"

namespace mneme::server {
namespace {

constexpr int kExitUsage = 2;
constexpr int kMaxArenas = 2;

// libgomp reads its wait policy when it is loaded, before main: threads that
// spin while they wait would take the cores from those that compute. So the
// program starts itself once more with the policy set.
void RestartWithPassiveWaiting(char** argv) {
  constexpr char kVariable[] = "OMP_WAIT_POLICY";
  if (std::getenv(kVariable) != nullptr) return;
  if (setenv(kVariable, "passive", 1) != 0) return;
  std::string path(4096, '\0');
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  if (length > 0 && length < static_cast<ssize_t>(path.size())) {
    path.resize(static_cast<size_t>(length));
    execv(path.c_str(), argv);
  }
  LogWarning("cannot restart with ", kVariable,
             "=passive; set it for full speed");
}

// SIGTERM and SIGINT, on a thread of their own. Made before any other thread,
// so that all inherit the blocked signals. Before there is anything to drain,
// and when one comes again, a signal ends the program at once.
class StopSignals {
 public:
  StopSignals() : state_(std::make_shared<State>()) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread([signals, state = state_] {
      int signal = 0;
      while (true) {
        if (sigwait(&signals, &signal) != 0) continue;
        const bool first = !state->stop.HasBeenNotified();
        if (!first || !state->serving) _exit(128 + signal);
        LogInfo("signal ", signal);
        state->stop.Notify();
      }
    }).detach();
  }

  // From now on the first signal is for whoever awaits it.
  void Hold() { state_->serving = true; }
  void Await() { state_->stop.WaitForNotification(); }

 private:
  struct State {
    std::atomic<bool> serving{false};
    absl::Notification stop;
  };
  const std::shared_ptr<State> state_;  // the thread never ends
};

absl::Status LoadModels(const Config& config, Engine* engine,
                        Metrics* metrics) {
  for (const auto& [name, directory] : config.models) {
    MNEME_RETURN_IF_ERROR(engine->LoadModel(name, directory));
    MNEME_ASSIGN_OR_RETURN(const ModelInfo model, engine->GetModel(name));
    metrics->AddModel(model);
    LogInfo("model ", name, ": ", model.kind, ", ", model.parameters,
            " parameters, ", model.state_bytes, " bytes of state a session");
  }
  return absl::OkStatus();
}

void LogWarnings(const Config& config) {
  if (!config.ephemeral) {
    LogWarning(
        "sessions are kept in memory only and do not survive a restart; "
        "--ephemeral says that this is meant");
  }
  const bool local = absl::StartsWith(config.listen, "unix:") ||
                     absl::StartsWith(config.listen, "127.") ||
                     absl::StartsWith(config.listen, "localhost:") ||
                     absl::StartsWith(config.listen, "[::1]:");
  if (!local) {
    LogWarning("listening on ", config.listen,
               " without encryption and without authentication");
  }
}

void PrintReady(const Config& config, const GrpcServer& server,
                const MetricsServer* metrics_server) {
  std::vector<std::string> names;
  for (const auto& [name, directory] : config.models) names.push_back(name);
  const std::string line = absl::StrCat(
      "mnemed ready listen=", server.address(), " metrics=",
      metrics_server == nullptr ? "none" : metrics_server->address(),
      " models=", absl::StrJoin(names, ","), " pid=", getpid(), "\n");
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
}

// Serves until a signal came and everything has ended.
absl::Status Serve(const Config& config, StopSignals* stop_signals) {
  EngineOptions options;
  options.threads = config.threads;
  options.session_memory_bytes = config.session_memory_bytes;
  Metrics metrics(
      {.version = kVersion, .commit = kCommit, .backend = options.backend});
  options.observer = &metrics;
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                         Engine::Create(options));
  MNEME_RETURN_IF_ERROR(LoadModels(config, engine.get(), &metrics));

  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<GrpcServer> server,
                         GrpcServer::Start({.listen = config.listen,
                                            .engine = engine.get(),
                                            .metrics = &metrics}));
  std::unique_ptr<MetricsServer> metrics_server;
  if (!config.metrics_listen.empty()) {
    MNEME_ASSIGN_OR_RETURN(
        metrics_server,
        MetricsServer::Start(
            config.metrics_listen,
            {metrics.registry(), std::make_shared<EngineGauges>(engine.get()),
             std::make_shared<ProcessGauges>()}));
  }
  LogWarnings(config);
  stop_signals->Hold();
  PrintReady(config, *server, metrics_server.get());
  NotifyServiceManager("READY=1");

  stop_signals->Await();
  NotifyServiceManager("STOPPING=1");
  LogInfo("draining, for ", absl::FormatDuration(config.drain_timeout),
          " at most");
  const int64_t cut_off =
      server->Drain(options.clock->Now() + config.drain_timeout);
  LogInfo("drained; streams cut off: ", cut_off);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  RestartWithPassiveWaiting(argv);

  Flags flags;
  CLI::App app("Serves language models whose memory has a fixed size.",
               "mnemed");
  app.set_version_flag("--version",
                       absl::StrCat("mnemed ", kVersion, " (", kCommit, ")"));
  app.add_option("--listen", flags.listen,
                 "Where to serve gRPC: HOST:PORT (port 0: any) or unix:PATH")
      ->capture_default_str();
  app.add_option("--metrics-listen", flags.metrics_listen,
                 "Where to serve /metrics: HOST:PORT (port 0: any), or none")
      ->capture_default_str();
  app.add_option("--model", flags.models,
                 "NAME=DIR: serve the Hugging Face directory DIR as NAME; may "
                 "be repeated")
      ->allow_extra_args(false);
  app.add_option("--session-memory", flags.session_memory,
                 "Most memory for session states, such as 512M or 2G. Default: "
                 "half of what the machine or its cgroup has");
  app.add_option("--threads", flags.threads,
                 "Threads that compute. Default 0: one per core")
      ->capture_default_str();
  app.add_flag("--ephemeral", flags.ephemeral,
               "Keep sessions in memory only; this build knows no other way");
  app.add_option("--data-dir", flags.data_dir,
                 "Not available: this build keeps sessions in memory only");
  app.add_option("--drain-timeout", flags.drain_timeout_seconds,
                 "How many seconds running work has on SIGTERM")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  const absl::StatusOr<Config> config = ParseFlags(flags);
  if (!config.ok()) {
    std::fprintf(stderr,
                 "mnemed: wrong command line\n%s\nmnemed --help tells more\n",
                 std::string(config.status().message()).c_str());
    return kExitUsage;
  }

  // More arenas keep more freed memory each.
  mallopt(M_ARENA_MAX, kMaxArenas);
  StopSignals stop_signals;
  const absl::Status status = Serve(*config, &stop_signals);
  if (!status.ok()) {
    LogError("cannot start: ", status.message());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace mneme::server

int main(int argc, char** argv) { return mneme::server::Main(argc, argv); }
