// SPDX-License-Identifier: Apache-2.0
//
// mneme-bench-engine: what the engine reaches, as shares of what the machine
// can do, all of it measured in one run.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/tools/presets.h"
#include "tests/bench/limits.h"
#include "tests/bench/measurements.h"
#include "tests/bench/store_measurements.h"

namespace mneme::bench {
namespace {

constexpr int kXlRounds = 3;
constexpr int64_t kAppendBytes = 1000;
constexpr int kAppendRounds = 400;
constexpr int kWriters = 16;
constexpr double kMiB = 1 << 20;

struct Options {
  std::string preset = "ttt-linear-125m";
  std::string stream_preset = "ttt-linear-tiny";
  std::string xl_preset = "transformer-xl-125m";
  std::string models = "build/bench-models";
  std::string data = "build/bench-data";
  std::string mnemed;
  std::vector<std::string> parts = {"computing", "appends", "residence",
                                    "start"};
  int64_t cold_sessions = 100'000;
  std::string json;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int64_t stream_tokens = 1'000'000;
  int rounds = 7;
};

bool Wants(const Options& options, const char* part) {
  return std::find(options.parts.begin(), options.parts.end(), part) !=
         options.parts.end();
}

absl::StatusOr<std::shared_ptr<const Model>> LoadPreset(
    const Options& options, const std::string& preset, Backend& backend) {
  MNEME_ASSIGN_OR_RETURN(const ModelConfig config, PresetConfig(preset));
  if (config.mixers != std::vector<MixerType>{MixerType::kTtt}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "preset ", preset,
        ": the work of a token is known here for TTT models only"));
  }
  const std::string directory = options.models + "/" + preset;
  if (!std::filesystem::exists(directory + "/config.json")) {
    MNEME_RETURN_IF_ERROR(WriteRandomModel(config, 1, directory));
  }
  return Model::Load(directory, {}, &backend);
}

// How much sooner the next token is predicted with a memory than by reading
// the window anew: Dai et al. 2019, arXiv:1901.02860, section 4.6.
absl::Status MeasureTransformerXl(const Options& options, Backend& backend,
                                  nlohmann::ordered_json& report) {
  MNEME_ASSIGN_OR_RETURN(ModelConfig config, PresetConfig(options.xl_preset));
  const std::string directory = options.models + "/" + options.xl_preset;
  if (!std::filesystem::exists(directory + "/config.json")) {
    MNEME_RETURN_IF_ERROR(WriteRandomModel(config, 1, directory));
  }
  std::printf("%s, a token with its memory and by reading the window anew\n",
              options.xl_preset.c_str());
  config.relative.zero_memory = false;
  for (const int64_t tokens : {800, 1800, 2800, 3800}) {
    config.relative.memory = tokens;
    MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const Model> model,
                           Model::Load(config, directory, {}, &backend));
    MNEME_ASSIGN_OR_RETURN(const CachedEvaluation found,
                           EvaluateCached(*model, tokens, kXlRounds));
    const double ratio = found.recomputed_seconds / found.cached_seconds;
    std::printf("  attention length %4lld: %7.3f ms, %9.1f ms, ratio %.0f\n",
                static_cast<long long>(tokens), 1e3 * found.cached_seconds,
                1e3 * found.recomputed_seconds, ratio);
    report["transformer_xl"].push_back(
        {{"attention_length", tokens},
         {"cached_seconds_per_token", found.cached_seconds},
         {"recomputed_seconds_per_token", found.recomputed_seconds},
         {"ratio", ratio}});
  }
  std::printf("\n");
  return absl::OkStatus();
}

void PrintTimes(const char* what, double seconds, const char* limit,
                double limit_seconds) {
  std::printf("  %-34s %9.3f ms, %-28s %9.3f ms, ratio %.2f\n", what,
              1e3 * seconds, limit, 1e3 * limit_seconds,
              seconds / limit_seconds);
}

absl::Status MeasureAppends(const StoreBench& bench,
                            nlohmann::ordered_json& report) {
  MNEME_ASSIGN_OR_RETURN(const DurableAppends alone,
                         AppendDurably(bench, kAppendBytes, kAppendRounds));
  MNEME_ASSIGN_OR_RETURN(
      const GroupedAppends together,
      AppendTogether(bench, kWriters, kAppendBytes, /*rounds=*/3));
  std::printf("durable appends of %lld bytes, beside write + fdatasync\n",
              static_cast<long long>(kAppendBytes));
  PrintTimes("one session, p50", alone.append.p50, "the disk's p50",
             alone.disk.p50);
  PrintTimes("one session, p99", alone.append.p99, "the disk's p99",
             alone.disk.p99);
  std::printf(
      "  %d sessions at once: %.0f appends/s, the disk %.0f writes/s one after "
      "the other, %.2fx\n\n",
      kWriters, together.appends_per_second, together.disk_writes_per_second,
      together.appends_per_second / together.disk_writes_per_second);
  report["durable_append"] = {
      {"bytes", kAppendBytes},
      {"p50_seconds", alone.append.p50},
      {"p99_seconds", alone.append.p99},
      {"disk_p50_seconds", alone.disk.p50},
      {"disk_p99_seconds", alone.disk.p99},
      {"p50_ratio", alone.append.p50 / alone.disk.p50},
      {"p99_ratio", alone.append.p99 / alone.disk.p99},
      {"sessions_at_once", kWriters},
      {"appends_per_second", together.appends_per_second},
      {"disk_writes_per_second", together.disk_writes_per_second}};
  return absl::OkStatus();
}

absl::Status MeasureResidence(const StoreBench& bench, const Options& options,
                              nlohmann::ordered_json& report) {
  MNEME_ASSIGN_OR_RETURN(const Residence found,
                         SaveAndLoad(bench, options.rounds));
  std::printf(
      "%s, a session of %.2f MiB that takes %.2f MiB stored, beside a plain "
      "file\n",
      options.preset.c_str(), static_cast<double>(found.state_bytes) / kMiB,
      static_cast<double>(found.saved_bytes) / kMiB);
  struct Line {
    const char* key;
    const char* what;
    double seconds;
    const char* limit;
    double limit_seconds;
  };
  const Line lines[] = {
      {"save", "save", found.save, "write + fdatasync", found.disk_write},
      {"load_buffered", "load, in write buffers", found.load_buffered,
       "read, in the page cache", found.read_cached},
      {"load_cached", "load, in the page cache", found.load_cached,
       "read, in the page cache", found.read_cached},
      {"load_from_disk", "load, from the disk", found.load_from_disk,
       "read, from the disk", found.read_from_disk},
      {"fork_changed", "fork of what has changed", found.fork_changed,
       "write + fdatasync", found.disk_write},
      {"fork_unchanged", "fork of what has not", found.fork_unchanged,
       "1,000 bytes + fdatasync", found.disk_append},
      {"export", "export", found.export_file, "read, in the page cache",
       found.read_cached}};
  report["stored_session"] = {{"state_bytes", found.state_bytes},
                              {"saved_bytes", found.saved_bytes}};
  for (const Line& line : lines) {
    PrintTimes(line.what, line.seconds, line.limit, line.limit_seconds);
    report["stored_session"][line.key] = {
        {"seconds", line.seconds},
        {"limit", line.limit},
        {"limit_seconds", line.limit_seconds},
        {"ratio", line.seconds / line.limit_seconds}};
  }
  const double export_rate =
      static_cast<double>(found.saved_bytes) / found.export_file;
  report["stored_session"]["export"]["bytes_per_second"] = export_rate;
  std::printf("  export at %.2f GB/s\n\n", export_rate / 1e9);
  return absl::OkStatus();
}

absl::Status MeasureStart(const StoreBench& bench, const Options& options,
                          nlohmann::ordered_json& report) {
  MNEME_ASSIGN_OR_RETURN(
      const Start found,
      StartWithSessions(bench, options.mnemed, options.cold_sessions));
  std::printf("%s, a start with %lld cold sessions in %.1f MiB of files\n",
              options.stream_preset.c_str(),
              static_cast<long long>(found.sessions),
              static_cast<double>(found.stored_bytes) / kMiB);
  PrintTimes("engine, until they are found", found.engine_seconds,
             "read of those files", found.read_seconds);
  PrintTimes("mnemed, until it is ready", found.daemon_seconds,
             "mnemed without a session", found.empty_seconds);
  std::printf(
      "  resident memory %.0f bytes a session, published %.0f, ratio %.2f\n\n",
      static_cast<double>(found.daemon_growth) /
          static_cast<double>(found.sessions),
      static_cast<double>(found.index_bytes) /
          static_cast<double>(found.sessions),
      static_cast<double>(found.daemon_growth) /
          static_cast<double>(found.index_bytes));
  report["start"] = {{"sessions", found.sessions},
                     {"stored_bytes", found.stored_bytes},
                     {"read_seconds", found.read_seconds},
                     {"engine_seconds", found.engine_seconds},
                     {"daemon_seconds", found.daemon_seconds},
                     {"daemon_without_seconds", found.empty_seconds},
                     {"index_bytes", found.index_bytes},
                     {"resident_growth_bytes", found.daemon_growth}};
  return absl::OkStatus();
}

absl::Status MeasureStore(const Options& options, Backend& backend,
                          nlohmann::ordered_json& report) {
  // As in mnemed: what is large goes back to the system when it is freed.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  // Their files are there afterwards.
  for (const std::string& preset : {options.preset, options.stream_preset}) {
    MNEME_RETURN_IF_ERROR(LoadPreset(options, preset, backend).status());
  }
  StoreBench bench{.model = options.models + "/" + options.stream_preset,
                   .folder = options.data + "/mneme-bench",
                   .threads = options.threads};
  if (Wants(options, "appends")) {
    MNEME_RETURN_IF_ERROR(MeasureAppends(bench, report));
  }
  if (Wants(options, "start")) {
    MNEME_RETURN_IF_ERROR(MeasureStart(bench, options, report));
  }
  if (!Wants(options, "residence")) return absl::OkStatus();
  bench.model = options.models + "/" + options.preset;
  return MeasureResidence(bench, options, report);
}

absl::Status MeasureComputing(const Options& options, Backend& backend,
                              nlohmann::ordered_json& report) {
  const double sgemm = BestSgemmFlops(options.threads);
  const double bandwidth = ReadBandwidth(options.threads);
  std::printf("limits: sgemm %.1f GFLOP/s, read %.1f GB/s\n\n", sgemm / 1e9,
              bandwidth / 1e9);
  report["sgemm_flops"] = sgemm;
  report["read_bytes_per_second"] = bandwidth;

  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const Model> model,
                         LoadPreset(options, options.preset, backend));
  MNEME_ASSIGN_OR_RETURN(const Rate prefill,
                         Prefill(*model, 4, options.rounds));
  const double prefill_limit = sgemm / PrefillFlopsPerToken(*model);
  std::printf("%s (median, best, share of the limit by the median)\n",
              options.preset.c_str());
  std::printf("  prefill             %8.1f %8.1f tokens/s  %5.1f %% of sgemm\n",
              prefill.median, prefill.best,
              100 * prefill.median / prefill_limit);
  report["model"] = options.preset;
  report["prefill"] = {{"tokens_per_second", prefill.median},
                       {"share_of_sgemm", prefill.median / prefill_limit}};
  double one = 0;
  for (const int64_t sessions : {1, 2, 4, 8, 16}) {
    MNEME_ASSIGN_OR_RETURN(const Rate decode,
                           Decode(*model, sessions, 8, options.rounds + 1));
    if (sessions == 1) one = decode.median;
    const double limit = bandwidth / DecodeBytesPerPass(*model, sessions) *
                         static_cast<double>(sessions);
    std::printf(
        "  decode, %2d sessions %8.1f %8.1f tokens/s  %5.1f %% of read "
        "bandwidth, %.2fx one\n",
        static_cast<int>(sessions), decode.median, decode.best,
        100 * decode.median / limit, decode.median / one);
    report["decode"].push_back({{"sessions", sessions},
                                {"tokens_per_second", decode.median},
                                {"share_of_bandwidth", decode.median / limit},
                                {"times_one", decode.median / one}});
  }
  std::printf("  state %lld bytes a session, weights %lld bytes\n\n",
              static_cast<long long>(model->layout()->state_bytes()),
              static_cast<long long>(model->weight_bytes()));

  MNEME_RETURN_IF_ERROR(MeasureTransformerXl(options, backend, report));

  MNEME_ASSIGN_OR_RETURN(const std::shared_ptr<const Model> small,
                         LoadPreset(options, options.stream_preset, backend));
  MNEME_ASSIGN_OR_RETURN(const Flatness stream,
                         LongStream(*small, options.stream_tokens));
  std::printf("%s, one session to %lld tokens beside a young one\n",
              options.stream_preset.c_str(),
              static_cast<long long>(options.stream_tokens));
  for (const Flatness::Point& point : stream.points) {
    std::printf(
        "  at %8lld: %6.2f us/token, young %6.2f, ratio %.3f, resident %.2f "
        "MiB\n",
        static_cast<long long>(point.position), point.old_us_per_token,
        point.young_us_per_token,
        point.old_us_per_token / point.young_us_per_token,
        static_cast<double>(point.resident_bytes) / (1 << 20));
    report["stream"].push_back(
        {{"position", point.position},
         {"us_per_token", point.old_us_per_token},
         {"young_us_per_token", point.young_us_per_token},
         {"resident_bytes", point.resident_bytes}});
  }
  const int64_t growth = stream.resident_at_end - stream.resident_after_10k;
  std::printf("  resident memory grew by %.3f MiB after the first 10,000\n",
              static_cast<double>(growth) / (1 << 20));
  report["stream_resident_growth_bytes"] = growth;
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  nlohmann::ordered_json report;
  const std::unique_ptr<Backend> backend = MakeCpuBackend(options.threads);
  std::printf("threads %d, arithmetic %s\n", options.threads,
              backend->arithmetic_level().c_str());
  report["threads"] = options.threads;
  report["arithmetic"] = backend->arithmetic_level();
  if (Wants(options, "computing")) {
    MNEME_RETURN_IF_ERROR(MeasureComputing(options, *backend, report));
  }
  MNEME_RETURN_IF_ERROR(MeasureStore(options, *backend, report));
  if (!options.json.empty()) {
    std::ofstream out(options.json);
    out << report.dump(2) << "\n";
    out.close();
    if (!out) return absl::UnavailableError("cannot write " + options.json);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  CLI::App app("Measures the engine against the machine's limits.");
  mneme::bench::Options options;
  options.mnemed =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "mnemed";
  app.add_option("--preset", options.preset, "Model for prefill and decode")
      ->capture_default_str();
  app.add_option("--stream-preset", options.stream_preset,
                 "Model for the long stream")
      ->capture_default_str();
  app.add_option("--xl-preset", options.xl_preset,
                 "Transformer-XL for evaluation with and without its memory")
      ->capture_default_str();
  app.add_option("--stream-tokens", options.stream_tokens,
                 "Length of the long stream")
      ->capture_default_str();
  app.add_option("--models", options.models, "Folder for the models' files")
      ->capture_default_str();
  app.add_option("--part", options.parts,
                 "What to measure, one or more of computing, appends, "
                 "residence, start; default all")
      ->check(CLI::IsMember({"computing", "appends", "residence", "start"}));
  app.add_option("--data", options.data,
                 "Folder on the disk to be measured; what is made there goes "
                 "again")
      ->capture_default_str();
  app.add_option("--cold-sessions", options.cold_sessions,
                 "Sessions that a start finds")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  app.add_option("--mnemed", options.mnemed, "The daemon")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Workers")
      ->check(CLI::Range(1, 256));
  app.add_option("--rounds", options.rounds, "Repetitions per figure")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--json", options.json, "File for the figures");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = mneme::bench::Run(options);
  if (!status.ok()) {
    std::cerr << "mneme-bench-engine: " << status.message() << "\n";
    return 1;
  }
  return 0;
}
