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
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "engine/base/log.h"
#include "engine/base/machine.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "server/build_info.h"
#include "server/config.h"
#include "server/gauges.h"
#include "server/grpc_server.h"
#include "server/listen_address.h"
#include "server/metrics.h"
#include "server/metrics_server.h"
#include "server/model_catalog.h"
#include "server/notify.h"

namespace mneme::server {
namespace {

constexpr int kExitUsage = 2;
constexpr int kMaxArenas = 2;
constexpr int kMappedBytes = 128 << 10;
// What sessions have in memory and in the store is memory then, each up to half
// of half.
constexpr int64_t kEphemeralShare = 4;

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

absl::Status LoadModels(const Config& config, const Engine& engine,
                        ModelCatalog* catalog) {
  for (const auto& [name, source] : config.models) {
    if (!source.load) continue;
    MNEME_RETURN_IF_ERROR(catalog->Load(name));
    MNEME_ASSIGN_OR_RETURN(const ModelInfo model, engine.GetModel(name));
    LogInfo("model ", name, ": ", model.kind, ", ", model.parameters,
            " parameters, ", model.state_bytes, " bytes of state a session");
  }
  return absl::OkStatus();
}

// Where sessions are kept is there, or can be made.
absl::StatusOr<EngineOptions> StorageOptions(const Config& config) {
  EngineOptions options;
  options.session_memory_bytes = config.session_memory_bytes;
  options.store_bytes = config.store_bytes;
  options.session_store_bytes = config.session_store_bytes;
  options.snapshot_interval_tokens = config.snapshot_interval_tokens;
  options.snapshots_kept = config.snapshots_kept;
  options.salvage = config.salvage;
  if (config.ephemeral) {
    LogInfo("sessions are kept in memory and end with the daemon");
    if (options.session_memory_bytes == 0) {
      options.session_memory_bytes = MemoryBytes() / kEphemeralShare;
    }
    return options;
  }
  options.data_directory = config.data_dir;
  // The engine makes the last directory of the path.
  const std::filesystem::path parent =
      std::filesystem::path(config.data_dir).parent_path();
  std::error_code error;
  if (!parent.empty()) std::filesystem::create_directories(parent, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot make the data directory ", config.data_dir, ": ",
                     error.message(), "; --data-dir says where else"));
  }
  LogInfo("sessions are kept in ", config.data_dir);
  return options;
}

void LogWarnings(const Config& config) {
  for (const std::string& address : {config.listen, config.admin_listen}) {
    const bool local = address.empty() || absl::StartsWith(address, "unix:") ||
                       absl::StartsWith(address, "127.") ||
                       absl::StartsWith(address, "localhost:") ||
                       absl::StartsWith(address, "[::1]:");
    if (!local) {
      LogWarning("listening on ", address,
                 " without encryption and without authentication");
    }
  }
}

void PrintReady(const Config& config, const GrpcServer& server,
                const MetricsServer* metrics_server) {
  std::vector<std::string> names;
  for (const auto& [name, source] : config.models) {
    if (source.load) names.push_back(name);
  }
  const std::string line = absl::StrCat(
      "mnemed ready listen=", server.address(), " metrics=",
      metrics_server == nullptr ? "none" : metrics_server->address(), " admin=",
      server.admin_address().empty() ? "none" : server.admin_address(),
      " models=", absl::StrJoin(names, ","), " pid=", getpid(), "\n");
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
}

// Serves until a signal came and everything has ended.
absl::Status Serve(const Config& config, StopSignals* stop_signals) {
  MNEME_ASSIGN_OR_RETURN(EngineOptions options, StorageOptions(config));
  options.threads = config.threads;
  options.model_settings = config.model_settings;
  Metrics metrics(
      {.version = kVersion, .commit = kCommit, .backend = options.backend});
  options.observer = &metrics;
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                         Engine::Create(options));
  std::map<std::string, std::string> directories;
  for (const auto& [name, source] : config.models) {
    directories[name] = source.directory;
  }
  ModelCatalog catalog({.engine = engine.get(),
                        .metrics = &metrics,
                        .directories = std::move(directories),
                        .root = config.model_root});
  // Before the models are loaded, which takes long.
  for (const std::string& address :
       {config.listen, config.admin_listen, config.metrics_listen}) {
    if (!address.empty()) MNEME_RETURN_IF_ERROR(CheckCanListen(address));
  }
  MNEME_RETURN_IF_ERROR(LoadModels(config, *engine, &catalog));

  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<GrpcServer> server,
                         GrpcServer::Start({.listen = config.listen,
                                            .admin_listen = config.admin_listen,
                                            .engine = engine.get(),
                                            .metrics = &metrics,
                                            .models = &catalog,
                                            .version = kVersion,
                                            .settings = ToSettings(config)}));
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
  bool check_config = false;
  app.add_option("--config", flags.config,
                 "A TOML file of these settings; flags override it");
  app.add_flag("--check-config", check_config,
               "Print the resulting settings as TOML, or what is wrong with "
               "them, and start nothing");
  app.add_option("--listen", flags.listen,
                 "Where to serve gRPC: HOST:PORT (port 0: any) or unix:PATH. "
                 "Default 127.0.0.1:7600");
  app.add_option("--metrics-listen", flags.metrics_listen,
                 "Where to serve /metrics: HOST:PORT (port 0: any), or none. "
                 "Default 127.0.0.1:7601");
  app.add_option("--admin-listen", flags.admin_listen,
                 "Where to serve operators: HOST:PORT, unix:PATH, or none. "
                 "Default 127.0.0.1:7602");
  app.add_option("--model", flags.models,
                 "NAME=DIR: serve the Hugging Face directory DIR as NAME; may "
                 "be repeated")
      ->allow_extra_args(false);
  for (const ModelSetting& setting : kModelSettings) {
    app.add_option_function<std::string>(
        setting.flag,
        [&flags, &setting](const std::string& value) {
          flags.model_settings[setting.key] = value;
        },
        setting.help);
  }
  app.add_option("--model-root", flags.model_root,
                 "A directory whose directories may be loaded as models of "
                 "their names, when asked for");
  app.add_option("--session-memory", flags.session_memory,
                 "Most memory for session states, such as 512M or 2G. Default: "
                 "half of what the machine or its cgroup has; with --ephemeral "
                 "a quarter, because what is kept of sessions takes as much "
                 "again");
  app.add_option("--threads", flags.threads,
                 "Threads that compute. Default 0: one per core");
  // An unset flag must not override the file.
  bool ephemeral = false;
  const CLI::Option* const given =
      app.add_flag("--ephemeral,!--no-ephemeral", ephemeral,
                   "Keep sessions in memory only: they end with the daemon");
  app.add_option(
      "--data-dir", flags.data_dir,
      "Where sessions are kept; made if it is not there. Default: "
      "$STATE_DIRECTORY, as systemd sets it; else /var/lib/mneme for "
      "root, and for others $XDG_STATE_HOME/mneme or "
      "~/.local/state/mneme");
  app.add_option("--store-size", flags.store_size,
                 "Most that all that is kept there may take, such as 100G. "
                 "Default: no limit; with --ephemeral as much as "
                 "--session-memory");
  app.add_option("--session-store-size", flags.session_store_size,
                 "Most that the journal and the snapshots of one session may "
                 "take. Default: no limit");
  app.add_option("--snapshot-interval", flags.snapshot_interval,
                 "Tokens after which a session's state is written anew, where "
                 "the session does not say. Default 8192");
  app.add_option("--snapshots-kept", flags.snapshots_kept,
                 "How many such states of a session are kept. Default 2");
  bool salvage = false;
  const CLI::Option* const salvaging = app.add_flag(
      "--salvage,!--no-salvage", salvage,
      "Start with a damaged store: sessions that cannot be proved whole are "
      "quarantined");
  app.add_option("--drain-timeout", flags.drain_timeout,
                 "How many seconds running work has on SIGTERM. Default 30");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (given->count() > 0) flags.ephemeral = ephemeral;
  if (salvaging->count() > 0) flags.salvage = salvage;
  const absl::StatusOr<Config> config = ReadConfig(flags);
  if (!config.ok()) {
    std::fprintf(stderr,
                 "mnemed: wrong settings\n%s\nmnemed --help tells more\n",
                 std::string(config.status().message()).c_str());
    return kExitUsage;
  }
  if (check_config) {
    std::fputs(ToToml(*config).c_str(), stdout);
    return EXIT_SUCCESS;
  }

  // More arenas keep more freed memory each; and what is as large as a stored
  // state goes back to the system when it is freed.
  mallopt(M_ARENA_MAX, kMaxArenas);
  mallopt(M_MMAP_THRESHOLD, kMappedBytes);
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
