// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/struct.pb.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"

namespace mneme::client {
namespace {

constexpr std::pair<const char*, double> kShares[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}};

google::protobuf::Value Number(double number) {
  google::protobuf::Value value;
  value.set_number_value(number);
  return value;
}

double Rate(int64_t count, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

google::protobuf::Value ToValue(const Latencies& latencies) {
  google::protobuf::Value value;
  auto& fields = *value.mutable_struct_value()->mutable_fields();
  fields["count"] = Number(static_cast<double>(latencies.count()));
  for (const auto& [name, share] : kShares) {
    fields[name] = Number(latencies.Percentile(share));
  }
  return value;
}

google::protobuf::Struct ToStruct(const LoadOptions& options,
                                  const LoadResult& result) {
  google::protobuf::Struct out;
  auto& fields = *out.mutable_fields();
  fields["seed"].set_string_value(absl::StrCat(options.seed));
  fields["sessions"] = Number(options.sessions);
  fields["seconds"] = Number(absl::ToDoubleSeconds(result.elapsed));
  fields["answered"] = Number(static_cast<double>(result.answered));
  fields["promptTokensPerSecond"] =
      Number(Rate(result.prompt_tokens, result.elapsed));
  fields["generatedTokensPerSecond"] =
      Number(Rate(result.generated_tokens, result.elapsed));
  fields["firstTokenMilliseconds"] = ToValue(result.first_token);
  fields["betweenTokensMilliseconds"] = ToValue(result.between_tokens);
  fields["wholeMilliseconds"] = ToValue(result.whole);
  fields["sentLateMilliseconds"] = ToValue(result.sent_late);
  auto& errors = *fields["errors"].mutable_struct_value()->mutable_fields();
  for (const auto& [code, count] : result.errors) {
    errors[code] = Number(static_cast<double>(count));
  }
  return out;
}

std::string Describe(const LoadResult& result) {
  std::string text = absl::StrFormat(
      "%d answers in %.1f s; %.1f prompt tokens/s, %.1f generated tokens/s\n"
      "%-16s",
      result.answered, absl::ToDoubleSeconds(result.elapsed),
      Rate(result.prompt_tokens, result.elapsed),
      Rate(result.generated_tokens, result.elapsed), "milliseconds");
  for (const auto& [name, share] : kShares) {
    absl::StrAppend(&text, absl::StrFormat(" %10s", name));
  }
  const auto line = [&text](const char* what, const Latencies& latencies) {
    absl::StrAppend(&text, absl::StrFormat("\n%-16s", what));
    for (const auto& [name, share] : kShares) {
      absl::StrAppend(&text,
                      absl::StrFormat(" %10.2f", latencies.Percentile(share)));
    }
  };
  line("first token", result.first_token);
  line("between tokens", result.between_tokens);
  line("whole answer", result.whole);
  line("sent late", result.sent_late);
  for (const auto& [code, count] : result.errors) {
    absl::StrAppend(&text, "\nerrors ", code, ": ", count);
  }
  return text + "\n";
}

}  // namespace

absl::Status RunBench(const Cli& cli, const BenchArgs& args) {
  LoadOptions options = args.load;
  if (!options.model.empty()) {
    options.model = ResourceName("models/", options.model);
  }
  if (args.arrivals == "constant") options.arrivals = Arrivals::kConstant;
  if (args.arrivals == "poisson") options.arrivals = Arrivals::kPoisson;
  options.duration = absl::Seconds(args.seconds);
  if (options.requests == 0 && args.seconds == 0) {
    options.duration = absl::Seconds(10);
  }
  // An interrupt ends the requests, not the connection: the sessions still
  // have to be deleted, and what was measured is told.
  std::atomic<bool> stopped = false;
  InterruptHandler handler(cli.interrupts, [&] {
    if (stopped.exchange(true)) return false;
    cli.client->CancelRunning();
    return true;
  });
  const absl::StatusOr<LoadResult> result =
      RunLoad(cli.client, options, [&] { return stopped.load(); });
  if (stopped) *cli.interrupted = true;
  if (!result.ok()) return result.status();
  absl::Status printed = cli.json ? PrintJson(ToStruct(options, *result))
                                  : Print(Describe(*result));
  if (!printed.ok()) return printed;
  if (stopped) return absl::CancelledError("interrupted");
  if (result->errors.empty()) return absl::OkStatus();
  return absl::AbortedError("some requests failed");
}

}  // namespace mneme::client
