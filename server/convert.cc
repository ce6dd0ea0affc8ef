// SPDX-License-Identifier: Apache-2.0
#include "server/convert.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "server/names.h"
#include "server/request_id_table.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr int64_t kDefaultMaxTokens = 256;
constexpr size_t kMaxClientIdBytes = 128;
constexpr size_t kEtagDigits = 16;

v1::Session::Unit ToProto(SessionUnit unit) {
  return unit == SessionUnit::kText ? v1::Session::TEXT : v1::Session::TOKENS;
}

v1::Session::Busy ToProto(SessionActivity activity) {
  switch (activity) {
    case SessionActivity::kIdle:
      return v1::Session::IDLE;
    case SessionActivity::kAppending:
      return v1::Session::APPENDING;
    case SessionActivity::kGenerating:
      return v1::Session::GENERATING;
    case SessionActivity::kScoring:
      return v1::Session::SCORING;
    case SessionActivity::kCommittingSegment:
      return v1::Session::COMMITTING_SEGMENT;
  }
  return v1::Session::BUSY_UNSPECIFIED;
}

v1::Session::Durability ToProto(Durability durability) {
  return durability == Durability::kSynced ? v1::Session::FSYNC
                                           : v1::Session::NONE;
}

v1::SessionEvent::Type ToProto(SessionEvent::Kind kind) {
  switch (kind) {
    case SessionEvent::Kind::kNow:
      return v1::SessionEvent::SNAPSHOT_OF_NOW;
    case SessionEvent::Kind::kUpdated:
      return v1::SessionEvent::UPDATED;
    case SessionEvent::Kind::kLoaded:
      return v1::SessionEvent::LOADED;
    case SessionEvent::Kind::kEvicted:
      return v1::SessionEvent::EVICTED;
    case SessionEvent::Kind::kFenced:
      return v1::SessionEvent::FENCED;
    case SessionEvent::Kind::kReset:
      return v1::SessionEvent::RESET;
    case SessionEvent::Kind::kRolledBack:
      return v1::SessionEvent::ROLLED_BACK;
    case SessionEvent::Kind::kQuarantined:
      return v1::SessionEvent::QUARANTINED;
    case SessionEvent::Kind::kExpired:
      return v1::SessionEvent::EXPIRED;
    case SessionEvent::Kind::kDeleted:
      return v1::SessionEvent::DELETED;
  }
  return v1::SessionEvent::TYPE_UNSPECIFIED;
}

v1::GenerateResponse::Finished::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::GenerateResponse::Finished::STOP;
    case FinishReason::kLength:
      return v1::GenerateResponse::Finished::LENGTH;
    case FinishReason::kCancelled:
      return v1::GenerateResponse::Finished::CANCELLED;
    case FinishReason::kDeadline:
      return v1::GenerateResponse::Finished::DEADLINE;
  }
  return v1::GenerateResponse::Finished::FINISH_REASON_UNSPECIFIED;
}

v1::GenerateStats ToProto(const GenerateStats& stats) {
  v1::GenerateStats out;
  out.set_prompt_tokens(stats.prompt_tokens);
  out.set_generated_tokens(stats.generated_tokens);
  SetLoad(stats.load, &out);
  *out.mutable_queue_time() = ToDuration(stats.queue_time);
  *out.mutable_prefill_time() = ToDuration(stats.prefill_time);
  *out.mutable_decode_time() = ToDuration(stats.decode_time);
  if (stats.generated_tokens > 0) {
    *out.mutable_time_to_first_token() = ToDuration(stats.time_to_first_token);
  }
  out.set_seed(stats.seed);
  return out;
}

Payload TakeTokens(const v1::TokenIds& tokens) {
  return std::vector<int32_t>(tokens.ids().begin(), tokens.ids().end());
}

// What is given, and else what the engine takes for it.
SamplingOptions FromProto(const v1::SamplingParams& sampling) {
  SamplingOptions options;
  if (sampling.has_temperature()) options.temperature = sampling.temperature();
  options.top_k = sampling.top_k();
  if (sampling.has_top_p()) options.top_p = sampling.top_p();
  options.min_p = sampling.min_p();
  if (sampling.has_typical_p()) options.typical_p = sampling.typical_p();
  if (sampling.has_repetition_penalty()) {
    options.repetition_penalty = sampling.repetition_penalty();
  }
  options.presence_penalty = sampling.presence_penalty();
  options.frequency_penalty = sampling.frequency_penalty();
  options.penalty_window_tokens = sampling.penalty_window_tokens();
  if (sampling.has_seed()) options.seed = sampling.seed();
  options.logit_bias.insert(sampling.logit_bias().begin(),
                            sampling.logit_bias().end());
  return options;
}

absl::StatusOr<OnDisconnect> FromProto(
    v1::GenerateRequest::OnDisconnect value) {
  switch (value) {
    case v1::GenerateRequest::ON_DISCONNECT_UNSPECIFIED:
    case v1::GenerateRequest::CANCEL:
      return OnDisconnect::kCancel;
    case v1::GenerateRequest::FINISH:
      return OnDisconnect::kFinish;
    default:
      return BadField("on_disconnect",
                      absl::StrCat("found the unknown value ", value));
  }
}

// Of a session that has the rest from elsewhere.
template <typename Options>
absl::Status TakeLabelsAndTtl(const v1::Session& session,
                              const std::string& field, Options* options) {
  const char* set = nullptr;
  if (!session.model().empty()) set = "model";
  if (session.unit() != v1::Session::UNIT_UNSPECIFIED) set = "unit";
  if (session.snapshot_interval_tokens() != 0) set = "snapshot_interval_tokens";
  if (session.pinned()) set = "pinned";
  if (set != nullptr) {
    return BadField(absl::StrCat(field, ".", set),
                    "found it set, wanted labels and ttl at most");
  }
  options->labels.insert(session.labels().begin(), session.labels().end());
  MNEME_ASSIGN_OR_RETURN(options->ttl,
                         server::FromProto(session.ttl(), field + ".ttl"));
  return absl::OkStatus();
}

// The same for all requests that differ in output_offset alone.
std::string DigestOf(v1::GenerateRequest request) {
  request.clear_output_offset();
  return RequestDigest("mneme.v1.Memory/Generate", request);
}

void ToProto(const TokenLogprob& logprob, v1::TokenLogprob* out) {
  out->set_token(logprob.token);
  out->set_logprob(logprob.logprob);
  out->set_text(logprob.text);
  for (const TokenLogprob& likely : logprob.top) {
    ToProto(likely, out->add_top());
  }
}

}  // namespace

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp out;
  const int64_t seconds = absl::ToUnixSeconds(time);  // rounds down
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return out;
}

google::protobuf::Duration ToDuration(absl::Duration duration) {
  google::protobuf::Duration out;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return out;
}

absl::StatusOr<absl::Duration> FromProto(const google::protobuf::Duration& time,
                                         const std::string& field) {
  constexpr int64_t kMaxSeconds = 315'576'000'000;
  const int64_t seconds = time.seconds();
  const int32_t nanos = time.nanos();
  if (seconds < -kMaxSeconds || seconds > kMaxSeconds ||
      nanos <= -1'000'000'000 || nanos >= 1'000'000'000 ||
      (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) {
    return BadField(field, absl::StrCat("found ", seconds, " s and ", nanos,
                                        " ns, which is no duration"));
  }
  return absl::Seconds(seconds) + absl::Nanoseconds(nanos);
}

std::string EtagOf(const SessionInfo& session) {
  Sha256 digest;
  digest.Update(session.uid);
  digest.UpdateInt64(session.revision);
  return digest.HexDigest().substr(0, kEtagDigits);
}

v1::Session ToProto(const SessionInfo& session) {
  v1::Session out;
  out.set_name(SessionName(session.id));
  out.set_uid(session.uid);
  out.set_epoch(session.epoch);
  out.set_model(ModelName(session.model));
  out.set_model_fingerprint(session.model_fingerprint);
  out.set_unit(ToProto(session.unit));
  const bool whole = session.condition == SessionCondition::kActive;
  out.set_state(whole ? v1::Session::ACTIVE : v1::Session::QUARANTINED);
  out.set_state_detail(session.quarantine);
  out.set_position(session.position);
  out.set_absorbed_offset(session.absorbed_offset);
  out.set_durable_offset(session.durable_offset);
  out.set_next_offset(session.next_offset);
  out.set_pending_tokens(session.pending_tokens);
  out.set_pending_bytes(session.pending_bytes);
  out.set_state_bytes(session.state_bytes);
  out.set_state_digest(session.state_digest);
  out.set_history_digest(session.history_digest);
  out.set_state_tier(ToProto(session.tier));
  for (const auto& [key, value] : session.labels) {
    (*out.mutable_labels())[key] = value;
  }
  *out.mutable_create_time() = ToTimestamp(session.create_time);
  *out.mutable_update_time() = ToTimestamp(session.update_time);
  if (session.expire_time != absl::InfiniteFuture()) {
    *out.mutable_expire_time() = ToTimestamp(session.expire_time);
  }
  out.set_etag(EtagOf(session));
  out.set_durability(ToProto(session.durability));
  out.set_busy(ToProto(session.activity));
  out.set_snapshot_interval_tokens(session.snapshot_interval_tokens);
  out.set_pinned(session.pinned);
  return out;
}

v1::Snapshot ToProto(const SnapshotInfo& snapshot) {
  v1::Snapshot out;
  out.set_name(SnapshotName(snapshot.session, snapshot.name));
  out.set_offset(snapshot.offset);
  out.set_position(snapshot.position);
  out.set_state_digest(snapshot.state_digest);
  out.set_history_digest(snapshot.history_digest);
  out.set_stored_bytes(snapshot.stored_bytes);
  out.set_automatic(snapshot.automatic);
  *out.mutable_create_time() = ToTimestamp(snapshot.create_time);
  out.set_model_fingerprint(snapshot.model_fingerprint);
  return out;
}

v1::SessionEvent ToProto(const SessionEvent& event) {
  v1::SessionEvent out;
  out.set_type(ToProto(event.kind));
  *out.mutable_time() = ToTimestamp(event.time);
  *out.mutable_session() = ToProto(event.session);
  out.set_detail(event.detail);
  return out;
}

v1::Session::StateTier ToProto(StateTier tier) {
  switch (tier) {
    case StateTier::kHot:
      return v1::Session::HOT;
    case StateTier::kCold:
      return v1::Session::COLD;
    case StateTier::kReplayed:
      return v1::Session::REPLAYED;
  }
  return v1::Session::STATE_TIER_UNSPECIFIED;
}

v1::StatePart::Growth ToProto(StatePartInfo::Growth growth) {
  switch (growth) {
    case StatePartInfo::Growth::kFixed:
      return v1::StatePart::FIXED;
    case StatePartInfo::Growth::kSegment:
      return v1::StatePart::SEGMENT;
    case StatePartInfo::Growth::kWindow:
      return v1::StatePart::WINDOW;
    case StatePartInfo::Growth::kFirst:
      return v1::StatePart::FIRST;
  }
  return v1::StatePart::GROWTH_UNSPECIFIED;
}

v1::Model ToProto(const ModelInfo& model) {
  v1::Model out;
  out.set_name(ModelName(model.name));
  if (model.state == ModelState::kLoading) {
    out.set_state(v1::Model::LOADING);
    return out;
  }
  out.set_fingerprint(model.fingerprint);
  out.set_kind(model.kind);
  for (const std::string& mixer : model.mixers) out.add_mixers(mixer);
  out.set_state(v1::Model::LOADED);
  out.set_parameters(model.parameters);
  out.set_layers(static_cast<int32_t>(model.layers));
  out.set_model_dim(static_cast<int32_t>(model.model_dim));
  out.set_vocab_size(static_cast<int32_t>(model.vocab_size));
  out.set_weight_bytes(model.weight_bytes);
  out.set_weight_dtype("f32");
  out.set_state_bytes(model.state_bytes);
  out.set_scratch_bytes(model.scratch_bytes);
  out.set_stream_bytes(model.stream_bytes);
  out.set_index_bytes(model.index_bytes);
  out.set_block_tokens(static_cast<int32_t>(model.block_tokens));
  out.set_segment_tokens(static_cast<int32_t>(model.segment_tokens));
  out.set_token_limit(model.token_limit);
  for (const StatePartInfo& part : model.state_parts) {
    v1::StatePart& to = *out.add_state_parts();
    to.set_name(part.name);
    to.set_growth(ToProto(part.growth));
    to.set_rows(part.rows);
    to.set_row_floats(part.row_floats);
    to.set_layers(static_cast<int32_t>(part.layers));
  }
  out.set_tokenizer(model.tokenizer);
  out.set_chat_template(model.chat_template);
  if (model.bos_token.has_value()) out.set_bos_token(*model.bos_token);
  for (const int32_t token : model.eos_tokens) out.add_eos_tokens(token);
  *out.mutable_load_time() = ToTimestamp(model.load_time);
  out.set_sessions(model.sessions);
  return out;
}

absl::StatusOr<CreateSessionOptions> FromProto(
    const v1::CreateSessionRequest& request) {
  const v1::Session& session = request.session();
  CreateSessionOptions options;
  options.id = request.session_id();
  if (!request.source_snapshot().empty()) {
    MNEME_ASSIGN_OR_RETURN(
        const SnapshotIds source,
        ParseSnapshotName(request.source_snapshot(), "source_snapshot"));
    options.source_session = source.session;
    options.source_snapshot = source.snapshot;
  }
  options.snapshot_interval_tokens = session.snapshot_interval_tokens();
  options.pinned = session.pinned();
  if (!session.model().empty()) {
    MNEME_ASSIGN_OR_RETURN(options.model,
                           ParseModelName(session.model(), "session.model"));
  }
  switch (session.unit()) {
    case v1::Session::UNIT_UNSPECIFIED:
      break;
    case v1::Session::TEXT:
      options.unit = SessionUnit::kText;
      break;
    case v1::Session::TOKENS:
      options.unit = SessionUnit::kTokens;
      break;
    default:
      return BadField("session.unit",
                      absl::StrCat("found the unknown value ", session.unit()));
  }
  options.labels.insert(session.labels().begin(), session.labels().end());
  MNEME_ASSIGN_OR_RETURN(options.ttl, FromProto(session.ttl(), "session.ttl"));
  return options;
}

absl::StatusOr<UpdateSessionOptions> FromProto(
    const v1::UpdateSessionRequest& request) {
  const v1::Session& session = request.session();
  UpdateSessionOptions options;
  MNEME_ASSIGN_OR_RETURN(options.session,
                         ParseSessionName(session.name(), "session.name"));
  bool labels = !request.has_update_mask() && !session.labels().empty();
  bool ttl = !request.has_update_mask() && session.has_ttl();
  bool interval =
      !request.has_update_mask() && session.snapshot_interval_tokens() != 0;
  bool pinned = !request.has_update_mask() && session.pinned();
  for (const std::string& path : request.update_mask().paths()) {
    if (path == "labels") {
      labels = true;
    } else if (path == "ttl") {
      ttl = true;
    } else if (path == "snapshot_interval_tokens") {
      interval = true;
    } else if (path == "pinned") {
      pinned = true;
    } else {
      return BadField("update_mask",
                      absl::StrCat("found \"", absl::CHexEscape(path),
                                   "\", wanted labels, ttl, "
                                   "snapshot_interval_tokens or pinned"));
    }
  }
  if (interval) {
    options.snapshot_interval_tokens = session.snapshot_interval_tokens();
  }
  if (pinned) options.pinned = session.pinned();
  if (labels) {
    options.labels.emplace(session.labels().begin(), session.labels().end());
  }
  if (ttl) {
    MNEME_ASSIGN_OR_RETURN(options.ttl,
                           FromProto(session.ttl(), "session.ttl"));
  }
  return options;
}

absl::StatusOr<ForkOptions> FromProto(const v1::ForkSessionRequest& request) {
  ForkOptions options;
  MNEME_ASSIGN_OR_RETURN(options.source,
                         ParseSessionName(request.source(), "source"));
  if (!request.snapshot().empty()) {
    MNEME_ASSIGN_OR_RETURN(
        options.snapshot,
        ParseSnapshotOf(options.source, request.snapshot(), "snapshot"));
  }
  options.id = request.session_id();
  MNEME_RETURN_IF_ERROR(
      TakeLabelsAndTtl(request.session(), "session", &options));
  return options;
}

absl::StatusOr<RollbackOptions> FromProto(
    const v1::RollbackSessionRequest& request) {
  RollbackOptions options;
  MNEME_ASSIGN_OR_RETURN(options.session,
                         ParseSessionName(request.name(), "name"));
  switch (request.target_case()) {
    case v1::RollbackSessionRequest::kSnapshot: {
      MNEME_ASSIGN_OR_RETURN(
          options.snapshot,
          ParseSnapshotOf(options.session, request.snapshot(), "snapshot"));
      break;
    }
    case v1::RollbackSessionRequest::kOffset:
      if (request.offset() < 0) {
        return BadField("offset", absl::StrCat("found ", request.offset(),
                                               ", wanted 0 or more"));
      }
      options.offset = request.offset();
      break;
    case v1::RollbackSessionRequest::TARGET_NOT_SET:
      return BadField("target", "found none, wanted snapshot or offset");
  }
  options.takeover = request.takeover();
  return options;
}

absl::StatusOr<ImportOptions> FromProto(
    const v1::ImportSessionRequest::Open& open) {
  ImportOptions options;
  options.id = open.session_id();
  if (!open.model().empty()) {
    MNEME_ASSIGN_OR_RETURN(options.model,
                           ParseModelName(open.model(), "open.model"));
  }
  MNEME_RETURN_IF_ERROR(
      TakeLabelsAndTtl(open.session(), "open.session", &options));
  return options;
}

absl::StatusOr<AppendOptions> FromProto(const v1::AppendRequest::Open& open) {
  if (open.client_id().size() > kMaxClientIdBytes) {
    return BadField(
        "open.client_id",
        absl::StrCat("found ", open.client_id().size(), " bytes, wanted ",
                     kMaxClientIdBytes, " at most"));
  }
  AppendOptions options;
  MNEME_ASSIGN_OR_RETURN(options.session,
                         ParseSessionName(open.session(), "open.session"));
  options.uid = open.uid();
  options.expected_epoch = open.expected_epoch();
  options.takeover = open.takeover();
  return options;
}

// How large a segment may be is for the engine to say, which announced it.
absl::StatusOr<AppendStream::Segment> FromProto(
    v1::AppendRequest::Segment* segment) {
  AppendStream::Segment out;
  out.offset = segment->offset();
  switch (segment->payload_case()) {
    case v1::AppendRequest::Segment::kText:
      out.payload = std::move(*segment->mutable_text());
      break;
    case v1::AppendRequest::Segment::kTokens:
      out.payload = TakeTokens(segment->tokens());
      break;
    case v1::AppendRequest::Segment::PAYLOAD_NOT_SET:
      return BadField("segment.payload", "found none, wanted text or tokens");
  }
  if (segment->has_crc32c()) out.crc32c = segment->crc32c();
  out.role = std::move(*segment->mutable_role());
  out.end_of_turn = segment->end_of_turn();
  return out;
}

v1::AppendResponse::Opened ToProto(const AppendOpened& opened) {
  v1::AppendResponse::Opened out;
  out.set_uid(opened.uid);
  out.set_epoch(opened.epoch);
  out.set_durability(ToProto(opened.durability));
  out.set_durable_offset(opened.durable_offset);
  out.set_absorbed_offset(opened.absorbed_offset);
  out.set_digest_at_durable(opened.history_digest);
  out.set_max_inflight_bytes(opened.max_inflight_bytes);
  out.set_max_segment_bytes(opened.max_segment_bytes);
  out.set_unit(ToProto(opened.unit));
  out.set_next_offset(opened.next_offset);
  out.set_position(opened.position);
  SetLoad(opened.load, &out);
  return out;
}

absl::StatusOr<GenerateOptions> FromProto(const v1::GenerateRequest& request) {
  if (request.has_grammar()) return UnsupportedField("grammar");
  if (request.has_json_schema()) return UnsupportedField("json_schema");
  GenerateOptions options;
  MNEME_ASSIGN_OR_RETURN(options.session,
                         ParseSessionName(request.session(), "session"));
  options.uid = request.uid();
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (!request.text().empty()) {
        options.prompt = request.text();
      }
      break;
    case v1::GenerateRequest::kTokens:
      if (request.tokens().ids_size() > 0) {
        options.prompt = TakeTokens(request.tokens());
      }
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  options.role = request.role();
  options.max_tokens =
      request.max_tokens() == 0 ? kDefaultMaxTokens : request.max_tokens();
  options.sampling = FromProto(request.sampling());
  options.stop.assign(request.stop().begin(), request.stop().end());
  options.stop_tokens.assign(request.stop_token_ids().begin(),
                             request.stop_token_ids().end());
  options.ignore_eos = request.ignore_eos();
  options.logprobs = request.logprobs();
  options.top_logprobs = request.top_logprobs();
  options.commit = !request.has_commit() || request.commit();
  options.request_id = request.request_id();
  if (!options.request_id.empty()) options.request_digest = DigestOf(request);
  options.output_offset = request.output_offset();
  MNEME_ASSIGN_OR_RETURN(options.on_disconnect,
                         FromProto(request.on_disconnect()));
  return options;
}

void AddEvent(const GenerateEvent& event, v1::GenerateResponse* response) {
  switch (event.kind) {
    case GenerateEvent::Kind::kStarted:
      response->mutable_started()->set_ask_position(event.ask_position);
      response->mutable_started()->set_offset(event.offset);
      response->mutable_started()->set_attached(event.attached);
      break;
    case GenerateEvent::Kind::kOutput:
      response->mutable_text()->append(event.text);
      if (event.token.has_value()) response->add_tokens(*event.token);
      if (event.logprob.has_value()) {
        ToProto(*event.logprob, response->add_logprobs());
      }
      break;
    case GenerateEvent::Kind::kFinished: {
      auto* const finished = response->mutable_finished();
      finished->set_finish_reason(ToProto(event.reason));
      finished->set_next_offset(event.next_offset);
      finished->set_position(event.position);
      *finished->mutable_stats() = ToProto(event.stats);
      finished->set_stop(event.stop);
      if (event.stop_token.has_value()) {
        finished->set_stop_token(*event.stop_token);
      }
      finished->set_durable_offset(event.durable_offset);
      break;
    }
  }
}

absl::StatusOr<ScoreOptions> FromProto(const v1::ScoreRequest::Open& open) {
  if (!v1::ScoreRequest::Detail_IsValid(open.detail())) {
    return BadField("open.detail",
                    absl::StrCat("found the unknown value ", open.detail()));
  }
  ScoreOptions options;
  MNEME_ASSIGN_OR_RETURN(options.session,
                         ParseSessionName(open.session(), "open.session"));
  options.uid = open.uid();
  options.commit = open.commit();
  if (!options.commit && !open.request_id().empty()) {
    return BadField("open.request_id", "found one without commit");
  }
  return options;
}

absl::StatusOr<Payload> TakePiece(v1::ScoreRequest* request) {
  if (request->has_text()) return Payload(std::move(*request->mutable_text()));
  if (request->has_tokens()) return TakeTokens(request->tokens());
  return BadField("message", "wanted text or tokens after open");
}

v1::CommitSegmentResponse ToProto(const SegmentCommit& commit) {
  v1::CommitSegmentResponse out;
  out.set_position(commit.position);
  out.set_segment_tokens(commit.segment_tokens);
  SetLoad(commit.load, &out);
  return out;
}

v1::ScoreTotals ToProto(const ScoreTotals& totals) {
  v1::ScoreTotals out;
  out.set_tokens_scored(totals.tokens_scored);
  out.set_tokens_unscored(totals.tokens_unscored);
  out.set_bytes(totals.bytes);
  out.set_logprob_sum(totals.logprob_sum);
  const double bits = -totals.logprob_sum / std::numbers::ln2;
  if (totals.bytes > 0) {
    out.set_bits_per_byte(bits / static_cast<double>(totals.bytes));
  }
  if (totals.tokens_scored > 0) {
    out.set_bits_per_token(bits / static_cast<double>(totals.tokens_scored));
  }
  return out;
}

v1::ScoreResponse ToProto(const ScoreEvent& end) {
  v1::ScoreResponse response;
  AddEvent(end, /*tokens=*/false, &response);
  return response;
}

void AddEvent(const ScoreEvent& event, bool tokens,
              v1::ScoreResponse* response) {
  *response->mutable_totals() = ToProto(event.totals);
  if (tokens) {
    for (const ScoreEvent::Token& token : event.tokens) {
      v1::TokenScore* const score = response->add_scores();
      score->set_token(token.token);
      score->set_logprob(token.logprob);
      score->set_offset(token.offset);
    }
  }
  if (event.kind != ScoreEvent::Kind::kFinished) return;
  auto* const finished = response->mutable_finished();
  finished->set_next_offset(event.next_offset);
  finished->set_position(event.position);
  SetLoad(event.load, finished->mutable_stats());
  *finished->mutable_stats()->mutable_queue_time() =
      ToDuration(event.queue_time);
  *finished->mutable_stats()->mutable_compute_time() =
      ToDuration(event.compute_time);
}

}  // namespace mneme::server
