// SPDX-License-Identifier: Apache-2.0
#include <google/protobuf/util/time_util.h>

#include <cstdio>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/input.h"
#include "client/progress_bar.h"

namespace mneme::client {
namespace {

absl::StatusOr<std::unique_ptr<Input>> OpenInput(
    const Cli& cli, const std::vector<std::string>& files, bool tokens) {
  // The last id of a file and the first of the next are two.
  return Input::Open(
      files, [flag = cli.interrupted] { return flag->load(); },
      tokens ? "\n" : "");
}

double Milliseconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(
             google::protobuf::util::TimeUtil::DurationToMicroseconds(
                 duration)) /
         1000;
}

const char* UnitWord(bool tokens) { return tokens ? "tokens" : "bytes"; }

std::string Describe(const v1::GenerateStats& stats,
                     const v1::GenerateResponse::Finished& finished) {
  return absl::StrFormat(
      "%s; prompt %d, generated %d, replayed %d tokens; state %s; queue %.1f, "
      "load %.1f, prefill %.1f, decode %.1f, first token %.1f ms; position "
      "%d\n",
      v1::GenerateResponse::Finished::FinishReason_Name(
          finished.finish_reason()),
      stats.prompt_tokens(), stats.generated_tokens(), stats.tokens_replayed(),
      v1::Session::StateTier_Name(stats.state_tier()),
      Milliseconds(stats.queue_time()), Milliseconds(stats.load_time()),
      Milliseconds(stats.prefill_time()), Milliseconds(stats.decode_time()),
      Milliseconds(stats.time_to_first_token()), finished.position());
}

absl::Status AddBias(const std::string& text, v1::SamplingParams* sampling) {
  const std::vector<std::string> parts = absl::StrSplit(text, '=');
  int32_t token = 0;
  float bias = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &token) ||
      !absl::SimpleAtof(parts[1], &bias)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--logit-bias: found \"", text, "\", wanted TOKEN=BIAS"));
  }
  (*sampling->mutable_logit_bias())[token] = bias;
  return absl::OkStatus();
}

// One line per token: id, log probability, text; the likeliest ones behind it.
std::string Describe(const v1::TokenLogprob& logprob) {
  const auto describe = [](const v1::TokenLogprob& token) {
    return absl::StrFormat("%8d %12.6f \"%s\"", token.token(), token.logprob(),
                           absl::CHexEscape(token.text()));
  };
  std::string line = describe(logprob);
  for (const v1::TokenLogprob& likely : logprob.top()) {
    absl::StrAppend(&line, " |", describe(likely));
  }
  return line + "\n";
}

absl::StatusOr<v1::GenerateRequest> MakeRequest(const GenerateArgs& args) {
  v1::GenerateRequest request;
  request.set_session(ResourceName("sessions/", args.session));
  request.set_request_id(args.request_id);
  if (args.tokens) {
    const auto ids = ParseTokens(args.prompt);
    if (!ids.ok()) return ids.status();
    request.mutable_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
  } else if (!args.prompt.empty()) {
    request.set_text(args.prompt);
  }
  request.set_max_tokens(args.max_tokens);
  v1::SamplingParams* sampling = request.mutable_sampling();
  if (args.temperature) sampling->set_temperature(*args.temperature);
  sampling->set_top_k(args.top_k);
  if (args.top_p) sampling->set_top_p(*args.top_p);
  sampling->set_min_p(args.min_p);
  if (args.typical_p) sampling->set_typical_p(*args.typical_p);
  if (args.repetition_penalty) {
    sampling->set_repetition_penalty(*args.repetition_penalty);
  }
  sampling->set_presence_penalty(args.presence_penalty);
  sampling->set_frequency_penalty(args.frequency_penalty);
  sampling->set_penalty_window_tokens(args.penalty_window_tokens);
  for (const std::string& bias : args.logit_bias) {
    const absl::Status added = AddBias(bias, sampling);
    if (!added.ok()) return added;
  }
  if (args.seed) sampling->set_seed(*args.seed);
  for (const std::string& stop : args.stop) request.add_stop(stop);
  for (const int32_t token : args.stop_tokens) {
    request.add_stop_token_ids(token);
  }
  request.set_ignore_eos(args.ignore_eos);
  request.set_logprobs(args.logprobs || args.top_logprobs != 0);
  request.set_top_logprobs(args.top_logprobs);
  if (args.no_commit) request.set_commit(false);
  request.set_output_offset(args.output_offset);
  if (args.finish) request.set_on_disconnect(v1::GenerateRequest::FINISH);
  return request;
}

// One line per token: offset, id, log probability.
std::string Describe(const v1::ScoreResponse& response) {
  std::string text;
  for (const v1::TokenScore& score : response.scores()) {
    absl::StrAppend(&text, absl::StrFormat("%12d %8d %12.6f\n", score.offset(),
                                           score.token(), score.logprob()));
  }
  return text;
}

}  // namespace

absl::Status RunAppend(const Cli& cli, const AppendArgs& args) {
  absl::StatusOr<std::unique_ptr<Input>> input =
      OpenInput(cli, args.files, args.tokens);
  if (!input.ok()) return input.status();
  // Token ids as text have another size than as tokens.
  ProgressBar progress(args.tokens ? std::nullopt : (*input)->size());
  absl::Status printed = absl::OkStatus();
  AppendOptions options{.message_bytes = args.message_bytes,
                        .start_offset = args.start_offset,
                        .resume = args.resume,
                        .takeover = args.takeover};
  // Offset of the input's beginning.
  std::optional<int64_t> first_offset = args.start_offset;
  if (args.resume) first_offset = 0;
  options.on_response = [&](const v1::AppendResponse& response) {
    if (cli.json && printed.ok()) printed = PrintJson(response);
    if (response.has_opened() && !first_offset.has_value()) {
      first_offset = response.opened().next_offset();
    }
    if (response.has_ack()) {
      const int64_t units =
          response.ack().absorbed_offset() - first_offset.value_or(0);
      progress.Update(units * (args.tokens ? 4 : 1));
    }
  };
  options.on_break = [&](const absl::Status& why, absl::Duration wait) {
    progress.Clear();
    std::fprintf(
        stderr, "mneme: %s; going on in %s\n",
        why.ToString(absl::StatusToStringMode::kWithNoExtraData).c_str(),
        absl::FormatDuration(wait).c_str());
  };
  const std::string session = ResourceName("sessions/", args.session);
  const absl::Time start = absl::Now();
  TokenReader tokens(input->get());
  const absl::StatusOr<AppendResult> result =
      args.tokens
          ? cli.client->AppendTokens(
                session, [&](int64_t max) { return tokens.Read(max); }, options)
          : cli.client->AppendText(
                session, [&](int64_t max) { return (*input)->Read(max); },
                options);
  if (!result.ok()) return result.status();
  if (!printed.ok() || cli.json) return printed;
  const int64_t units = result->end_offset - result->start_offset;
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  std::string text = absl::StrFormat(
      "appended %d %s to %s in %.2f s (%.0f %s/s): offset %d, position %d",
      units, UnitWord(args.tokens), session, seconds,
      seconds > 0 ? static_cast<double>(units) / seconds : 0,
      UnitWord(args.tokens), result->end_offset,
      result->ack.position() > 0 ? result->ack.position()
                                 : result->opened.position());
  absl::StrAppend(&text, result->opened.durability() == v1::Session::FSYNC
                             ? ", durable"
                             : ", in RAM only");
  if (result->duplicate) absl::StrAppend(&text, ", part of it was there");
  if (!result->verified) absl::StrAppend(&text, " (too old to compare)");
  return Print(text + "\n");
}

absl::Status RunGenerate(const Cli& cli, const GenerateArgs& args) {
  const absl::StatusOr<v1::GenerateRequest> request = MakeRequest(args);
  if (!request.ok()) return request.status();
  bool first = true;
  const auto finished = cli.client->Generate(
      *request, [&](const v1::GenerateResponse& response) -> absl::Status {
        if (cli.json) return PrintJson(response);
        if (request->logprobs()) {
          std::string lines;
          for (const v1::TokenLogprob& logprob : response.logprobs()) {
            lines += Describe(logprob);
          }
          return Print(lines);
        }
        if (!args.tokens) return Print(response.text());
        if (response.tokens().empty()) return absl::OkStatus();
        const char* separator = std::exchange(first, false) ? "" : " ";
        return Print(
            absl::StrCat(separator, absl::StrJoin(response.tokens(), " ")));
      });
  if (!finished.ok()) return finished.status();
  if (cli.json) return absl::OkStatus();
  if (args.tokens && !request->logprobs()) {
    absl::Status ended = Print("\n");
    if (!ended.ok()) return ended;
  }
  if (StderrIsTerminal()) {
    std::fprintf(stderr, "\n%s",
                 Describe(finished->stats(), *finished).c_str());
  }
  return absl::OkStatus();
}

absl::Status RunScore(const Cli& cli, const ScoreArgs& args) {
  absl::StatusOr<std::unique_ptr<Input>> input =
      OpenInput(cli, {args.file}, args.tokens);
  if (!input.ok()) return input.status();
  v1::ScoreRequest::Open open;
  open.set_session(ResourceName("sessions/", args.session));
  open.set_commit(args.commit);
  open.set_detail(args.detailed ? v1::ScoreRequest::TOKENS
                                : v1::ScoreRequest::SUMMARY);
  ProgressBar progress(args.tokens ? std::nullopt : (*input)->size());
  absl::Status printed = absl::OkStatus();
  ScoreOptions options{.message_bytes = args.message_bytes};
  options.on_response = [&](const v1::ScoreResponse& response) {
    progress.Update(response.totals().bytes());
    if (!printed.ok()) return;
    if (cli.json) {
      printed = PrintJson(response);
    } else if (!response.scores().empty()) {
      printed = Print(Describe(response));
    }
  };
  TokenReader tokens(input->get());
  const absl::StatusOr<ScoreResult> result =
      args.tokens
          ? cli.client->ScoreTokens(
                open, [&](int64_t max) { return tokens.Read(max); }, options)
          : cli.client->ScoreText(
                open, [&](int64_t max) { return (*input)->Read(max); },
                options);
  if (!result.ok()) return result.status();
  if (!printed.ok() || cli.json) return printed;
  const v1::ScoreTotals& totals = result->totals;
  std::string text = absl::StrFormat("tokens %d, bytes %d, %.4f bits/token",
                                     totals.tokens_scored(), totals.bytes(),
                                     totals.bits_per_token());
  if (totals.bytes() > 0) {
    absl::StrAppend(
        &text, absl::StrFormat(", %.4f bits/byte", totals.bits_per_byte()));
  }
  if (totals.tokens_unscored() > 0) {
    absl::StrAppend(&text, ", unscored ", totals.tokens_unscored());
  }
  return Print(text + "\n");
}

}  // namespace mneme::client
