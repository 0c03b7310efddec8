#include "ray/gcs/redis_link.h"

#include <hiredis/hiredis.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::gcs {
namespace {

absl::Status ErrorOf(const redisReply& reply) {
  const absl::string_view text(reply.str, reply.len);
  const std::string message = absl::StrCat("the Redis server says: ", text);
  if (absl::StartsWith(text, "NOAUTH") || absl::StartsWith(text, "WRONGPASS")) {
    return absl::UnauthenticatedError(message);
  }
  // A script says it in the middle of its own error.
  if (absl::StrContains(text, "OOM ") || absl::StrContains(text, "MISCONF ")) {
    return absl::ResourceExhaustedError(message);
  }
  if (absl::StartsWith(text, "LOADING")) return absl::UnavailableError(message);
  return absl::InternalError(message);
}

}  // namespace

void RedisLink::Disconnect::operator()(redisContext* context) const { redisFree(context); }
void RedisLink::FreeReply::operator()(redisReply* reply) const { freeReplyObject(reply); }

absl::Status RedisLink::Connect() {
  const timeval timeout = absl::ToTimeval(options_.timeout);
  context_.reset(redisConnectWithTimeout(options_.host.c_str(), options_.port, timeout));
  if (context_ == nullptr || context_->err != 0) {
    const absl::Status failure = Failure("cannot connect");
    context_.reset();
    return failure;
  }
  redisSetTimeout(context_.get(), timeout);
  if (options_.password.empty()) return absl::OkStatus();
  MANTA_ASSIGN_OR_RETURN(Reply reply, Try({"AUTH", options_.password}));
  if (reply->type != REDIS_REPLY_ERROR) return absl::OkStatus();
  context_.reset();
  return ErrorOf(*reply);
}

absl::Status RedisLink::Failure(std::string_view what) const {
  return absl::UnavailableError(
      absl::StrCat("the Redis server at ", options_.host, ":", options_.port, ": ",
                   absl::string_view(what.data(), what.size()), ": ",
                   context_ == nullptr ? "no memory" : static_cast<const char*>(context_->errstr)));
}

absl::StatusOr<RedisLink::Reply> RedisLink::Try(const Command& command) {
  std::vector<const char*> words;
  std::vector<size_t> sizes;
  for (const std::string& word : command) {
    words.push_back(word.data());
    sizes.push_back(word.size());
  }
  Reply reply(static_cast<redisReply*>(redisCommandArgv(
      context_.get(), static_cast<int>(words.size()), words.data(), sizes.data())));
  if (reply != nullptr) return reply;
  const absl::Status failure = Failure("no answer");
  context_.reset();
  return failure;
}

absl::StatusOr<RedisLink::Reply> RedisLink::Run(const Command& command) {
  absl::StatusOr<Reply> reply = absl::UnavailableError("not connected");
  if (context_ != nullptr) reply = Try(command);
  if (!reply.ok()) {
    MANTA_RETURN_IF_ERROR(Connect());
    reply = Try(command);
  }
  if (reply.ok() && (*reply)->type == REDIS_REPLY_ERROR) return ErrorOf(**reply);
  return reply;
}

}  // namespace ray::gcs
