#include "ray/gcs/redis_storage.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"

namespace ray::gcs {
namespace {

// A look at one key costs one; a scan of a whole table asks for more and more at a time.
constexpr int kScanFirst = 1;
constexpr int kScanMax = 512;

std::string_view Text(const redisReply& reply) { return {reply.str, reply.len}; }

absl::Status ErrorOf(const redisReply& reply) {
  const absl::string_view text(reply.str, reply.len);
  const std::string message = absl::StrCat("the Redis server says: ", text);
  if (absl::StartsWith(text, "NOAUTH") || absl::StartsWith(text, "WRONGPASS")) {
    return absl::UnauthenticatedError(message);
  }
  if (absl::StartsWith(text, "OOM") || absl::StartsWith(text, "MISCONF")) {
    return absl::ResourceExhaustedError(message);
  }
  if (absl::StartsWith(text, "LOADING")) return absl::UnavailableError(message);
  return absl::InternalError(message);
}

}  // namespace

void RedisStorage::Disconnect::operator()(redisContext* context) const { redisFree(context); }
void RedisStorage::FreeReply::operator()(redisReply* reply) const { freeReplyObject(reply); }

absl::StatusOr<RedisStorage::Options> RedisStorage::ParseUrl(std::string_view rest) {
  Options options;
  const size_t slash = rest.find('/');
  const std::string_view address = rest.substr(0, slash);
  const size_t colon = address.rfind(':');
  const bool has_prefix = slash != std::string_view::npos && slash + 1 < rest.size();
  const std::string_view port = colon == std::string_view::npos ? "" : address.substr(colon + 1);
  if (!has_prefix || colon == 0 ||
      !absl::SimpleAtoi(absl::string_view(port.data(), port.size()), &options.port) ||
      options.port <= 0 || options.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("'redis://",
                                                   absl::string_view(rest.data(), rest.size()),
                                                   "' is not redis://HOST:PORT/PREFIX"));
  }
  options.host = std::string(address.substr(0, colon));
  if (options.host.size() > 2 && options.host.front() == '[') {  // an IPv6 address
    options.host = options.host.substr(1, options.host.size() - 2);
  }
  options.prefix = std::string(rest.substr(slash + 1));
  if (const char* password = std::getenv("RAY_REDIS_PASSWORD"); password != nullptr) {
    options.password = password;
  }
  return options;
}

absl::StatusOr<std::unique_ptr<RedisStorage>> RedisStorage::Open(Options options) {
  std::unique_ptr<RedisStorage> storage(new RedisStorage(std::move(options)));
  MANTA_RETURN_IF_ERROR(storage->Run({"PING"}).status());
  return storage;
}

std::string RedisStorage::HashOf(std::string_view table) const {
  return absl::StrCat(options_.prefix, ":", absl::string_view(table.data(), table.size()));
}

std::string RedisStorage::KeysOf(std::string_view table) const {
  return absl::StrCat(HashOf(table), ":keys");
}

absl::Status RedisStorage::Connect() {
  const timeval timeout = absl::ToTimeval(options_.timeout);
  context_.reset(redisConnectWithTimeout(options_.host.c_str(), options_.port, timeout));
  if (context_ == nullptr || context_->err != 0) {
    const absl::Status failure = Failure("cannot connect");
    context_.reset();
    return failure;
  }
  redisSetTimeout(context_.get(), timeout);
  if (options_.password.empty()) return absl::OkStatus();
  MANTA_ASSIGN_OR_RETURN(std::vector<Reply> replies, TryAll({{"AUTH", options_.password}}));
  if (replies[0]->type != REDIS_REPLY_ERROR) return absl::OkStatus();
  context_.reset();
  return ErrorOf(*replies[0]);
}

absl::Status RedisStorage::Failure(std::string_view what) const {
  return absl::UnavailableError(
      absl::StrCat("the Redis server at ", options_.host, ":", options_.port, ": ",
                   absl::string_view(what.data(), what.size()), ": ",
                   context_ == nullptr ? "no memory" : static_cast<const char*>(context_->errstr)));
}

// What is written is the same when it is written twice, so a connection that broke in the middle is
// made again.
absl::StatusOr<std::vector<RedisStorage::Reply>> RedisStorage::RunAll(
    const std::vector<Command>& commands) {
  if (context_ != nullptr) {
    absl::StatusOr<std::vector<Reply>> replies = TryAll(commands);
    if (replies.ok()) return replies;
  }
  MANTA_RETURN_IF_ERROR(Connect());
  return TryAll(commands);
}

absl::StatusOr<std::vector<RedisStorage::Reply>> RedisStorage::TryAll(
    const std::vector<Command>& commands) {
  for (const Command& command : commands) {
    std::vector<const char*> words;
    std::vector<size_t> sizes;
    for (const std::string& word : command) {
      words.push_back(word.data());
      sizes.push_back(word.size());
    }
    redisAppendCommandArgv(context_.get(), static_cast<int>(words.size()), words.data(),
                           sizes.data());
  }
  std::vector<Reply> replies;
  for (size_t i = 0; i < commands.size(); ++i) {
    void* reply = nullptr;
    if (redisGetReply(context_.get(), &reply) != REDIS_OK || reply == nullptr) {
      const absl::Status failure = Failure("no answer");
      context_.reset();
      return failure;
    }
    replies.emplace_back(static_cast<redisReply*>(reply));
  }
  return replies;
}

absl::StatusOr<RedisStorage::Reply> RedisStorage::Run(const Command& command) {
  MANTA_ASSIGN_OR_RETURN(std::vector<Reply> replies, RunAll({command}));
  if (replies[0]->type == REDIS_REPLY_ERROR) return ErrorOf(*replies[0]);
  return std::move(replies[0]);
}

absl::StatusOr<std::string> RedisStorage::Get(std::string_view table, std::string_view key) {
  MANTA_ASSIGN_OR_RETURN(Reply reply, Run({"HGET", HashOf(table), std::string(key)}));
  if (reply->type != REDIS_REPLY_STRING) return absl::NotFoundError("no such key");
  return std::string(Text(*reply));
}

absl::Status RedisStorage::Scan(std::string_view table, std::string_view prefix, Visitor visit) {
  std::string begin = absl::StrCat("[", absl::string_view(prefix.data(), prefix.size()));
  int count = kScanFirst;
  while (true) {
    MANTA_ASSIGN_OR_RETURN(Reply keys, Run({"ZRANGEBYLEX", KeysOf(table), begin, "+", "LIMIT", "0",
                                            absl::StrCat(count)}));
    Command get = {"HMGET", HashOf(table)};
    for (size_t i = 0; i < keys->elements && Text(*keys->element[i]).starts_with(prefix); ++i) {
      get.emplace_back(Text(*keys->element[i]));
    }
    const size_t found = get.size() - 2;
    if (found == 0) return absl::OkStatus();
    MANTA_ASSIGN_OR_RETURN(Reply values, Run(get));
    for (size_t i = 0; i < values->elements; ++i) {
      if (!visit(get[i + 2], Text(*values->element[i]))) return absl::OkStatus();
    }
    if (found < static_cast<size_t>(count)) return absl::OkStatus();
    begin = absl::StrCat("(", get.back());
    count = std::min(count * 8, kScanMax);
  }
}

absl::Status RedisStorage::Write(const WriteBatch& batch) {
  std::vector<Command> commands = {{"MULTI"}};
  for (const WriteBatch::Change& change : batch.changes()) {
    if (change.value.has_value()) {
      commands.push_back({"HSET", HashOf(change.table), change.key, *change.value});
      commands.push_back({"ZADD", KeysOf(change.table), "0", change.key});
    } else {
      commands.push_back({"HDEL", HashOf(change.table), change.key});
      commands.push_back({"ZREM", KeysOf(change.table), change.key});
    }
  }
  commands.push_back({"EXEC"});
  MANTA_ASSIGN_OR_RETURN(std::vector<Reply> replies, RunAll(commands));
  // A command that is refused while it is queued makes EXEC discard the whole.
  for (const Reply& reply : replies) {
    if (reply->type == REDIS_REPLY_ERROR) return ErrorOf(*reply);
  }
  const redisReply& results = *replies.back();
  for (size_t i = 0; i < results.elements; ++i) {
    if (results.element[i]->type == REDIS_REPLY_ERROR) return ErrorOf(*results.element[i]);
  }
  return absl::OkStatus();
}

}  // namespace ray::gcs
