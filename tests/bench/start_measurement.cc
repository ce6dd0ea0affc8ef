// SPDX-License-Identifier: Apache-2.0
//
// How long it takes to find many sessions, and what that takes of memory.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "tests/bench/store_measurements.h"
#include "tests/support/many_sessions.h"

namespace mneme::bench {
namespace {

constexpr char kModel[] = "m";

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Of another process; -1 if it cannot be told.
int64_t ResidentBytesOf(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/statm"));
  int64_t total = 0;
  int64_t resident = -1;
  status >> total >> resident;
  return resident < 0 ? -1 : resident * sysconf(_SC_PAGE_SIZE);
}

struct Daemon {
  double ready_seconds = 0;
  int64_t resident_bytes = 0;
};

// Starts a daemon, and ends it once it is ready.
absl::StatusOr<Daemon> StartDaemon(const std::string& mnemed,
                                   const std::string& model,
                                   const std::string& data, int threads) {
  int out[2];
  if (pipe(out) != 0) return absl::ErrnoToStatus(errno, "pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, out[0]);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                   O_WRONLY, 0);
  std::vector<std::string> words = {mnemed,
                                    "--listen",
                                    "127.0.0.1:0",
                                    "--admin-listen",
                                    "none",
                                    "--metrics-listen",
                                    "none",
                                    "--threads",
                                    absl::StrCat(threads),
                                    "--model",
                                    absl::StrCat(kModel, "=", model),
                                    "--data-dir",
                                    data};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const double start = Seconds();
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, mnemed.c_str(), &actions, nullptr,
                                 arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  FILE* const lines = fdopen(out[0], "r");
  if (failed != 0) {
    fclose(lines);
    return absl::ErrnoToStatus(failed, mnemed);
  }
  char line[1024] = "";
  const bool ready = fgets(line, sizeof line, lines) != nullptr &&
                     absl::StartsWith(line, "mnemed ready");
  const Daemon found{.ready_seconds = Seconds() - start,
                     .resident_bytes = ResidentBytesOf(pid)};
  kill(pid, SIGTERM);
  int status = 0;
  waitpid(pid, &status, 0);
  fclose(lines);
  if (!ready) return absl::InternalError(mnemed + " did not get ready");
  return found;
}

// Reads all files below `folder`; their bytes.
int64_t ReadFiles(const std::string& folder) {
  std::vector<char> buffer(1 << 20);
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder, error)) {
    std::ifstream in(entry.path(), std::ios::binary);
    while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())),
           in.gcount() > 0) {
      bytes += in.gcount();
    }
  }
  return bytes;
}

}  // namespace

absl::StatusOr<Start> StartWithSessions(const StoreBench& bench,
                                        const std::string& mnemed,
                                        int64_t sessions) {
  const std::string full = bench.folder + "/full";
  const std::string empty = bench.folder + "/empty";
  std::error_code error;
  std::filesystem::remove_all(bench.folder, error);
  std::filesystem::create_directories(bench.folder, error);
  const EngineOptions options{.threads = bench.threads,
                              .data_directory = empty};
  std::string fingerprint;
  {
    MNEME_ASSIGN_OR_RETURN(const auto engine, Engine::Create(options));
    MNEME_RETURN_IF_ERROR(engine->LoadModel(kModel, bench.model));
    MNEME_ASSIGN_OR_RETURN(const ModelInfo model, engine->GetModel(kModel));
    fingerprint = model.fingerprint;
  }
  MNEME_RETURN_IF_ERROR(WriteManySessions(full, sessions, kModel, fingerprint));
  Start found{.sessions = sessions};
  {
    // Brings what was written last from the log into tables.
    EngineOptions first = options;
    first.data_directory = full;
    MNEME_RETURN_IF_ERROR(Engine::Create(first).status());
    found.stored_bytes = ReadFiles(full);
    double start = Seconds();
    ReadFiles(full);
    found.read_seconds = Seconds() - start;
    start = Seconds();
    MNEME_ASSIGN_OR_RETURN(const auto engine, Engine::Create(first));
    found.engine_seconds = Seconds() - start;
    if (engine->stats().sessions != sessions) {
      return absl::InternalError("not all sessions were found");
    }
    found.index_bytes = engine->stats().index_bytes;
  }
  MNEME_ASSIGN_OR_RETURN(
      const Daemon without,
      StartDaemon(mnemed, bench.model, empty, bench.threads));
  MNEME_ASSIGN_OR_RETURN(const Daemon with,
                         StartDaemon(mnemed, bench.model, full, bench.threads));
  found.empty_seconds = without.ready_seconds;
  found.daemon_seconds = with.ready_seconds;
  found.daemon_growth = with.resident_bytes - without.resident_bytes;
  std::filesystem::remove_all(bench.folder, error);
  return found;
}

}  // namespace mneme::bench
